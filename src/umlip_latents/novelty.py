r"""What is new in a set of structures: novelty against a reference, duplicates, what to label next.

All distances are taken between features that were centred and scaled to unit total variance on the
reference, as for the reconstruction errors, so that they do not depend on a model's units. A
structure is described by its atoms or by its first two cumulants, both unchanged when it is turned,
shifted, renumbered or repeated as a supercell.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform
from sklearn.neighbors import NearestNeighbors
from skmatter.sample_selection import FPS

from .comparison import draws
from .cumulants import structure_features
from .features import Features
from .neighbourhoods import scaled
from .resources import InputError

SCORES = ("distance", "sparsity", "leverage", "residual")
PARTS = 5  # of a reference, held out in turn
NEIGHBOURS = 5  # of the sparsity
RIDGE = 1e-3  # of the leverage, as a share of the total variance
SHARE = 0.9  # of the variance, which the subspace of the residual holds
ORDER = 2  # cumulants of a structure


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
    check_alike(reference, new)
    known = np.arange(len(reference.features))
    both = scaled(np.vstack([reference.features, new.features]), known, reference.model)
    x, y = np.split(both, [len(known)])
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x))).fit(x).kneighbors(y)[0]
    variances, directions = np.linalg.eigh(x.T @ x / len(x))  # smallest first
    along = np.square(y @ directions)
    outside = np.cumsum(variances) <= (1 - SHARE) * variances.sum()
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
    if len(names) < PARTS:
        raise InputError(f"{len(names)} structures or groups are fewer than a reference's {PARTS}.")
    part = np.random.default_rng(0).permutation(len(names))[label] % PARTS
    found = novelty_scores(reference, new)
    below = 0 * found
    for n in range(PARTS):
        rest, held_out = (reference.select(reference.kept[m]) for m in (part != n, part == n))
        known, unknown = (novelty_scores(rest, f) for f in (held_out, new))
        for score in SCORES:
            below[score] += np.searchsorted(np.sort(known[score]), unknown[score])
    return found.join((100 * below / len(part)).add_suffix("_percentile"))


def separation(
    scores: np.ndarray, new: np.ndarray, groups: Sequence, *, n_bootstrap: int = 200
) -> np.ndarray:
    """Area under the ROC curve: the chance that a new structure scores above a familiar one.

    Parameters
    ----------
    scores
        (n,) of structures, higher for newer ones; of equal ones half are counted.
    new
        (n,) true where a structure is new indeed.
    groups
        (n,) labels: the bootstrap draws those of one label, such as a trajectory, together.
    n_bootstrap
        Draws, the same for all scores of the same structures.

    Returns
    -------
    numpy.ndarray
        The area, between 0 and 1, and after it those of the draws, for `comparison.estimate`. 0.5
        is a guess.

    Raises
    ------
    InputError
        There are no familiar structures, or no new ones.

    Examples
    --------
    >>> new = np.array([False, False, True, True])
    >>> separation(np.array([1, 2, 2, 3]), new, range(4), n_bootstrap=0).tolist()
    [0.875]
    """
    if len({*np.asarray(new).tolist()}) < 2:
        raise InputError("An area under the ROC curve needs familiar structures and new ones.")
    wins = (1 + np.sign(np.subtract.outer(scores[new], scores[~new]))) / 2
    label = np.unique(groups, return_inverse=True)[1]
    drawn = draws(label.max() + 1, n_bootstrap, np.random.default_rng(0))[:, label]
    pairs = drawn[:, new].sum(axis=1) * drawn[:, ~new].sum(axis=1)  # none where a side is not drawn
    return ((drawn[:, new] @ wins) * drawn[:, ~new]).sum(axis=1)[pairs > 0] / pairs[pairs > 0]


def near_duplicates(
    features: Features, other: Features | None = None, *, tolerance: float = 0.01
) -> pd.DataFrame:
    """Pairs of structures that a model can hardly tell apart.

    Two structures are near-duplicates if their first two cumulants, scaled to unit total variance
    over all structures, are no farther apart than the tolerance. Supercells and turned, shifted or
    renumbered copies are.

    Parameters
    ----------
    features
        Of the structures.
    other
        Find pairs of one structure each of `features` and of these, not pairs within `features`.
    tolerance
        Largest distance, by default far above the rounding of single precision, some 1e-5; the
        root mean square over all pairs is 1.4.

    Returns
    -------
    pandas.DataFrame
        ``first``, ``second``, the input indices, and ``distance``.

    Raises
    ------
    InputError
        Features of different models, layers or widths, structures that are all alike, or a
        tolerance that is no distance.

    Examples
    --------
    >>> x = np.array([[0.0], [2.0], [0.0]])
    >>> cells = Features(x, np.ones(3, int), np.ones(3), np.arange(3))
    >>> near_duplicates(cells)[["first", "second"]].values.tolist()
    [[0, 2]]
    """
    if not 0 <= tolerance < np.inf:
        raise InputError(f"tolerance {tolerance}: must be a distance, not below 0.")
    sets = [features] if other is None else [features, other]
    x = scaled_cumulants(*sets)
    pairs = cKDTree(x).query_pairs(tolerance, output_type="ndarray")
    if other is not None:
        pairs = pairs[np.diff(pairs >= len(features.kept), axis=1)[:, 0]]
    found = pd.DataFrame(np.concatenate([f.kept for f in sets])[pairs], columns=["first", "second"])
    return found.assign(distance=np.linalg.norm(np.subtract(*x[pairs.T]), axis=1))


def farthest_points(features: Features, n: int) -> pd.DataFrame:
    """Structures to label: farthest-point sampling on the first two cumulants.

    The first one is the nearest to the mean, each further one the farthest from those chosen so
    far (`skmatter.sample_selection.FPS`).

    Parameters
    ----------
    features
        Of the structures to choose from.
    n
        How many.

    Returns
    -------
    pandas.DataFrame
        A row per choice, in order: ``structure``, its input index, and ``radius``, the largest
        distance of any structure from the nearest one chosen so far, in units of the spread.

    Raises
    ------
    InputError
        More are wanted than there are, or they do not vary.

    Examples
    --------
    >>> cells = Features(np.array([[1.0], [2.0], [5.0]]), np.ones(3, int), np.ones(3), np.arange(3))
    >>> farthest_points(cells, 2)["structure"].tolist()
    [1, 2]
    """
    if not 0 < n <= len(features.kept):
        raise InputError(f"n {n}: must lie between 1 and the {len(features.kept)} structures.")
    x = scaled_cumulants(features)
    found = FPS(n_to_select=n, initialize=int(np.square(x).sum(axis=1).argmin())).fit(x)
    squared = np.append(found.get_select_distance()[1:], found.get_distance().max())
    chosen = features.kept[found.selected_idx_]
    return pd.DataFrame({"structure": chosen, "radius": np.sqrt(squared.clip(0))})


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    r"""Distance of the Gaussians with the means and covariances of two samples.

    .. math:: d^2 = \|\mu_x - \mu_y\|^2
              + \mathrm{tr}\bigl(C_x + C_y - 2 (C_x^{1/2} C_y C_x^{1/2})^{1/2}\bigr)

    (Dowson and Landau, J. Multivar. Anal. 12, 450, 1982). It sees means and covariances alone, and
    is larger the smaller the samples are: hold it against that of random halves.

    Parameters
    ----------
    x, y
        (n_x, d) and (n_y, d).

    Examples
    --------
    >>> frechet_distance(np.array([[-1.0], [1.0]]), np.array([[1.0], [7.0]])).__round__(3)
    4.472
    """
    centred = [table - table.mean(axis=0) for table in (x, y)]
    a, b = (np.linalg.qr(table, mode="r") / np.sqrt(len(table)) for table in centred)
    # with C = A'A the last trace is the sum of the singular values of A B'
    squared = np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.square(a).sum()
    squared += np.square(b).sum() - 2 * np.linalg.norm(a @ b.T, "nuc")
    return float(np.sqrt(max(squared, 0)))


def maximum_mean_discrepancy(x: np.ndarray, first: np.ndarray) -> np.ndarray:
    r"""Squared maximum mean discrepancy between two parts of a sample, unbiased.

    .. math:: \langle k(x, x') \rangle + \langle k(y, y') \rangle - 2 \langle k(x, y) \rangle

    over pairs of different points, with :math:`k = \exp(-r^2 / 2 \sigma^2)` and
    :math:`\sigma` the median distance of all points (Gretton et al., J. Mach. Learn. Res. 13, 723,
    2012). 0 on average for two samples of one distribution, hence at times below it.

    Parameters
    ----------
    x
        (n, d).
    first
        (n_divisions, n), true for the points of the first part, two at least in either.

    Returns
    -------
    numpy.ndarray
        (n_divisions,).

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [9.0], [9.1]])
    >>> maximum_mean_discrepancy(x, [[True, True, False, False]]).round(1).tolist()
    [0.8]
    """
    r = pdist(x)
    kernel = squareform(np.exp(-np.square(r / np.median(r)) / 2))  # zero on the diagonal
    a = np.asarray(first, dtype=float)
    b, n = 1 - a, a.sum(axis=1)
    m = len(x) - n
    xx, xy, yy = (((p @ kernel) * q).sum(axis=1) for p, q in ((a, a), (a, b), (b, b)))
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def set_distances(first: Features, second: Features, *, n_null: int = 200) -> pd.DataFrame:
    """Distances of two data sets, beside those of random divisions of all their structures.

    Parameters
    ----------
    first, second
        Of one model and one layer; a structure is its first two cumulants.
    n_null
        Divisions into parts of the same sizes. Structures are drawn one by one, so that the frames
        of a trajectory make two sets look too different.

    Returns
    -------
    pandas.DataFrame
        Rows ``frechet`` and ``mmd``: ``value``, the median ``null`` and the end ``null_high`` of
        the 95 % interval of the random ones, and ``p``, the share of these that is not smaller.

    Raises
    ------
    InputError
        Features of different models, layers or widths, or fewer than two structures.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> about = np.ones(30, int), np.ones(30), np.arange(30)
    >>> far, alike = Features(x[30:] + 5, *about), Features(x[30:], *about)
    >>> [bool((set_distances(Features(x[:30], *about), f)["p"] < 0.05).all()) for f in (far, alike)]
    [True, False]
    """
    x = scaled_cumulants(first, second)
    if min(len(first.kept), len(second.kept)) < 2:
        raise InputError("The distance of two data sets needs two structures of each.")
    own, rng = np.arange(len(x)) < len(first.kept), np.random.default_rng(0)
    divisions = np.array([own, *(rng.permutation(own) for _ in range(n_null))])
    frechet = [frechet_distance(x[d], x[~d]) for d in divisions]
    table = np.array([frechet, maximum_mean_discrepancy(x, divisions)])
    value, null = table[:, 0], table[:, 1:]
    found = pd.DataFrame({"value": value}, pd.Index(["frechet", "mmd"], name="measure"))
    found["null"], found["null_high"] = np.quantile(null, [0.5, 0.975], axis=1)
    return found.assign(p=(1 + (value <= null.T).sum(axis=0)) / (1 + n_null))


def check_alike(*features: Features) -> None:
    """Raise `InputError` unless all are features of structures by one model and layer."""
    about = {f"{f.model} {f.layer} ({f.features.shape[1]} wide)" for f in features}
    if len(about) > 1:
        raise InputError(f"Features of {' and '.join(sorted(about))} cannot be compared.")
    if len({f.fingerprint for f in features} - {""}) > 1:
        raise InputError(f"Features of two models of the name {about.pop()} cannot be compared.")
    if min(len(f.kept) for f in features) == 0:
        raise InputError(f"{features[0].model}: a set of features holds no structure.")


def scaled_cumulants(*sets: Features) -> np.ndarray:
    """A row per structure of the sets, one after the other, scaled on all of them."""
    check_alike(*sets)
    x = np.vstack([structure_features(f, ORDER).features for f in sets])
    return scaled(x, np.arange(len(x)), sets[0].model)
