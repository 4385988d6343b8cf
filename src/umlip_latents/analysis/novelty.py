r"""What is new in a set of structures: novelty against a reference, and how well it warns.

All distances are taken between features that were centred and scaled to unit total variance on the
reference, as for the reconstruction errors, so that they do not depend on a model's units. A
structure is described by its atoms or by its first two cumulants, both unchanged when it is turned,
shifted, renumbered or repeated as a supercell.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from ..features.table import Features
from ..measures.preprocess import standardize
from ..resources import InputError

SCORES = ("distance", "sparsity", "leverage", "residual")
N_PARTS = 5  # of a reference, held out in turn
N_NEIGHBOURS = 5  # of the sparsity
RIDGE = 1e-3  # of the leverage, as a share of the total variance
VARIANCE_SHARE = 0.9  # which the subspace of the residual holds


def novelty_scores(reference: Features, new: Features) -> pd.DataFrame:
    r"""How far structures lie from those of a reference, by four scores.

    With the features :math:`x` centred and scaled on the :math:`n` rows of the reference, whose
    covariance is :math:`C`:

    * ``distance``: to the nearest row of the reference;
    * ``sparsity``: distance :math:`r` to the fifth nearest. The density that the nearest neighbours
      estimate is proportional to :math:`r^{-d}` (Loftsgaarden and Quesenberry, 1965);
    * ``leverage``: :math:`x^\top (n C + \lambda)^{-1} x` with :math:`\lambda = 10^{-3} n`, the
      squared Mahalanobis distance over :math:`n`, regularised;
    * ``residual``: norm of the part of :math:`x` outside the leading principal directions that hold
      at least 90 % of the reference's variance.

    Parameters
    ----------
    reference, new
        Of one model and one layer. A structure's score is the mean over its atoms; give what
        `structure_features` makes of both to score its cumulants against those of structures.

    Returns
    -------
    pandas.DataFrame
        A row per structure of `new`, by input index. Scores have no unit and no upper bound; they
        do not change when all features are turned or scaled together or shifted.

    Raises
    ------
    InputError
        Features of different models, layers or widths, a reference that does not vary, or a set
        without structures.

    Notes
    -----
    No score knows what the model does not see, nor whether what is new is also wrong. Distance and
    sparsity take every direction for as good as any other, leverage and residual take the reference
    for one cloud: a gap in its middle is not new to them.

    Examples
    --------
    >>> known = Features(np.array([[0.0], [1.0], [3.0]]), np.ones(3, int), np.ones(3), np.arange(3))
    >>> new = Features(np.array([[1.0], [9.0]]), np.ones(2, int), np.ones(2), np.arange(2))
    >>> novelty_scores(known, new)["distance"].round(2).tolist()
    [0.0, 4.81]
    """
    check_same_model(reference, new)
    known = np.arange(len(reference.features))
    both = standardize(np.vstack([reference.features, new.features]), known, reference.model)
    x, y = np.split(both, [len(known)])
    near = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(x))).fit(x).kneighbors(y)[0]
    variances, directions = np.linalg.eigh(x.T @ x / len(x))  # smallest first
    along = np.square(y @ directions)
    outside = np.cumsum(variances) <= (1 - VARIANCE_SHARE) * variances.sum()
    leverage = (along / (variances.clip(0) + RIDGE)).sum(axis=1) / len(x)
    residual = np.sqrt(along[:, outside].sum(axis=1))
    table = np.column_stack([near[:, 0], near[:, -1], leverage, residual])
    atoms = pd.DataFrame(table, pd.Index(new.structure, name="structure"), SCORES)
    return atoms.groupby(level=0, sort=False).mean()


def novelty(reference: Features, new: Features, *, groups: Sequence | None = None) -> pd.DataFrame:
    """The scores of `novelty_scores`, and how many structures of the reference lie lower.

    The reference is dealt into five parts. Each part, and the new structures beside it, is scored
    against the rest, and the ``percentile`` of a new structure is the share of all held-out ones
    that score lower, in per cent. Of new structures that are drawn like the reference one in twenty
    lies above 95 (cross-conformal prediction: Vovk, Ann. Math. Artif. Intell. 74, 9, 2015).

    Parameters
    ----------
    reference, new
        As in `novelty_scores`.
    groups
        A label for every input structure of the reference. Those of one label, such as a
        trajectory, are held out together: siblings would make each other look familiar, and
        anything else new.

    Returns
    -------
    pandas.DataFrame
        The columns of `novelty_scores`, and each again with ``_percentile`` added.

    Raises
    ------
    InputError
        As `novelty_scores`, or fewer than five structures or labels to deal.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> known = Features(x, np.full(20, 3), np.ones(60), np.arange(20))
    >>> far = Features(x[:3] + 9, np.array([3]), np.ones(3), np.array([0]))
    >>> novelty(known, far)["distance_percentile"].tolist()
    [100.0]
    """
    labels = reference.kept if groups is None else np.asarray(groups)[reference.kept]
    names, label = np.unique(labels, return_inverse=True)
    if len(names) < N_PARTS:
        raise InputError(f"{len(names)} structures or groups: a reference needs {N_PARTS} of them.")
    part = np.random.default_rng(0).permutation(len(names))[label] % N_PARTS
    found = novelty_scores(reference, new)
    below = 0 * found
    for n in range(N_PARTS):
        rest, held_out = (reference.select(reference.kept[m]) for m in (part != n, part == n))
        known, unknown = (novelty_scores(rest, f) for f in (held_out, new))
        for score in SCORES:
            below[score] += np.searchsorted(np.sort(known[score]), unknown[score])
    return found.join((100 * below / len(part)).add_suffix("_percentile"))


def check_same_model(*features: Features) -> None:
    """Raise `InputError` unless all are features of structures by one model and layer."""
    about = {f"{f.model} {f.layer} ({f.features.shape[1]} wide)" for f in features}
    if len(about) > 1 or len({f.fingerprint for f in features} - {""}) > 1:
        names = " and ".join(sorted(about))
        raise InputError(f"Features of {names} are not of one model and cannot be compared.")
    if min(len(f.kept) for f in features) == 0:
        raise InputError(f"{features[0].model}: a set of features holds no structure.")
