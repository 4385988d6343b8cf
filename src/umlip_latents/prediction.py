r"""Structure features at work: ridge and kernel regression of what is labelled, honestly held out.

A property :math:`y` of a structure is predicted from its features :math:`x`, standardised on the
training structures, as

.. math::
    \hat y(x) = b + \sum_i k(x, x_i)\, c_i, \qquad (K + \alpha)\, c = y - b,

with the mean :math:`b` of the training structures and a kernel that is linear,
:math:`k = x \cdot x' / d`, which is ridge regression, or Gaussian,
:math:`k = \exp(-\gamma \|x - x'\|^2 / d)`, for :math:`d` features. It is scikit-learn's
`KernelRidge` on standardised columns and centred targets; the eigenvectors of :math:`K` serve all
strengths :math:`\alpha` and all targets. Inner folds by group choose kernel and strength.

Eight cumulants have eight times as many columns as the mean, and one strength for all of them lets
the many drown the few. A factor :math:`\theta` damps each cumulant against the one before it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from ase import Atoms
from ase.units import GPa
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GroupKFold

from .comparison import resampled_means
from .cumulants import cumulant_features
from .features import Features
from .properties import nearest_distances
from .resources import InputError

QUANTITIES = ["energy", "pressure", "force", "volume", "distance"]
UNITS = dict(zip(QUANTITIES, ["eV/atom", "GPa", "eV/Å", "Å³/atom", "Å"], strict=True))
ALPHAS = np.geomspace(1e-6, 1e4, 11)
KERNELS = ("linear", 0.2)  # or the gamma of a Gaussian one
PLAIN = [(kernel, 1.0) for kernel in KERNELS]
CANDIDATES = [*PLAIN, *((kernel, 0.3) for kernel in KERNELS)]
N_INNER = 3  # folds that choose
KEYS = ("origin", "mptrj_traj_id", "name")  # of `info`, that say what a structure is a version of
SINGLE = 1e-6  # what varies less, relative to its size, is the rounding of single precision


def structure_labels(structures: Sequence[Atoms]) -> pd.DataFrame:
    r"""What is known of each structure, a column per quantity, NaN where it is not known.

    Parameters
    ----------
    structures
        Labelled or not.

    Returns
    -------
    pandas.DataFrame
        ``energy`` (eV/atom), ``pressure`` :math:`-\mathrm{tr}\,\sigma / 3` (GPa), ``force``, the
        mean norm of the forces (eV/Å), ``volume`` of a cell that is periodic in three directions
        (Å³/atom), and ``distance``, the mean one from an atom to its nearest neighbour (Å).

    Examples
    --------
    >>> from ase.build import bulk
    >>> structure_labels([bulk("Cu", a=3.6)]).dropna(axis=1).round(2).to_dict("records")
    [{'volume': 11.66, 'distance': 2.55}]
    """
    rows = []
    for atoms in structures:
        known = atoms.calc.results if atoms.calc else {}
        row = {"energy": known["energy"] / len(atoms)} if "energy" in known else {}
        if "stress" in known:
            row["pressure"] = -atoms.get_stress()[:3].mean() / GPa
        if "forces" in known:
            row["force"] = np.linalg.norm(known["forces"], axis=1).mean()
        rows.append(row | ({"volume": atoms.get_volume() / len(atoms)} if atoms.pbc.all() else {}))
    labels = pd.DataFrame(rows, columns=QUANTITIES, dtype=float)
    return labels.assign(distance=nearest_distances(structures))


def materials(structures: Sequence[Atoms]) -> np.ndarray:
    """(n_structures,) which structures are versions of one thing, and must not be parted.

    Frames of one trajectory or material are, as ``info`` names it; others stand for themselves.

    Examples
    --------
    >>> materials([Atoms("H", info={"origin": "run 1"}), Atoms("H")]).tolist()
    ['run 1', 'structure 1']
    """
    whose = ({key: a.info[key] for key in KEYS if key in a.info} for a in structures)
    return np.array([str([*w.values(), f"structure {i}"][0]) for i, w in enumerate(whose)])


def pooled_features(features: Features, pooling: int | str) -> np.ndarray:
    """One vector per structure from those of its atoms.

    None of them changes if the cell is repeated.

    Parameters
    ----------
    features
        Of the atoms.
    pooling
        The number of cumulants, as in `cumulant_features` (1 is the mean), or ``"max"``: the mean
        and the largest value of each dimension.

    Returns
    -------
    numpy.ndarray
        (n_structures, columns), float64.

    Raises
    ------
    InputError
        Any other word or number.

    Examples
    --------
    >>> atoms = Features(np.array([[1.0], [3.0]]), np.array([2]), np.array([6, 8]), np.array([0]))
    >>> pooled_features(atoms, 2).tolist(), pooled_features(atoms, "max").tolist()
    ([[2.0, 1.0]], [[2.0, 3.0]])
    """
    if pooling != "max" and not isinstance(pooling, int):
        raise InputError(f"pooling {pooling}: a number of cumulants, or max.")
    x, n_atoms = features.features, features.n_atoms
    if pooling != "max":
        return cumulant_features(x, n_atoms, pooling)
    largest = np.maximum.reduceat(x, np.cumsum(n_atoms) - n_atoms)
    return np.hstack([cumulant_features(x, n_atoms, 1), largest])


def group_folds(groups: Sequence, n_folds: int) -> list[tuple[np.ndarray, ...]]:
    """Training and test structures of every fold; no group has structures on both sides.

    Parameters
    ----------
    groups
        (n_structures,) labels.
    n_folds
        Their number; at most that of the groups.

    Raises
    ------
    InputError
        There are fewer than two groups.

    Examples
    --------
    >>> [test.tolist() for _, test in group_folds(["a", "a", "b"], 4)]
    [[2], [0, 1]]
    """
    n_folds = min(n_folds, len(np.unique(groups)))
    if n_folds < 2:
        raise InputError("Folds by group need structures of at least two groups.")
    folds = GroupKFold(n_folds, shuffle=True, random_state=0)
    return list(folds.split(np.zeros(len(groups)), groups=groups))


def predict(
    features: np.ndarray,
    targets: np.ndarray,
    groups: Sequence,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    n_blocks: int = 1,
    shares: np.ndarray | None = None,
    candidates: Sequence[tuple[str | float, float]] = CANDIDATES,
) -> np.ndarray:
    r"""Predictions of test structures by maps that were fitted and chosen on the training ones.

    Parameters
    ----------
    features
        (n_structures, d), as from `pooled_features`.
    targets
        (n_structures, n_targets).
    groups
        (n_structures,) labels: the inner folds keep together those of one label.
    splits
        Training and test structures, as from `group_folds`.
    n_blocks
        Blocks of equally many columns side by side, such as the number of cumulants. Those of the
        k-th one count :math:`\theta^{k-1}` times as much as those of the first.
    shares
        (n_structures, n_elements) as from `composition`: a linear map of them, fitted to the
        training structures in the same way, is taken off first and added back at the end, so that
        the features have to tell what the composition does not.
    candidates
        Pairs of a kernel, ``"linear"`` or the :math:`\gamma` of a Gaussian one, and a
        :math:`\theta`. The inner folds choose one of them, and the strength, by the mean absolute
        error, for each target.

    Returns
    -------
    numpy.ndarray
        (n_tests, n_targets), the test structures of one split after those of the other.

    Raises
    ------
    InputError
        Tables of different lengths, numbers that are not finite, columns that are not blocks, or a
        split that trains on fewer than two groups.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> splits = group_folds(np.arange(60), 4)
    >>> found = predict(x, x @ np.ones((3, 1)), np.arange(60), splits)
    >>> rows = np.concatenate([test for _, test in splits])
    >>> bool(np.abs(found[:, 0] - x[rows].sum(axis=1)).max() < 1e-3)
    True
    """
    x, y, groups = np.asarray(features, float), np.asarray(targets, float), np.asarray(groups)
    shares = np.zeros((len(y), 1)) if shares is None else shares  # the mean is all that they tell
    if any(np.ndim(t) != 2 or len(t) != len(groups) for t in (x, y, shares)):
        raise InputError(f"{len(groups)} groups: every table needs a row for each structure.")
    if not all(np.isfinite(t).all() for t in (x, y, shares)):
        raise InputError("Features and targets must be finite numbers.")
    if x.shape[1] % n_blocks:
        raise InputError(f"{x.shape[1]} columns are not {n_blocks} blocks of equally many.")
    if n_blocks == 1:  # nothing to damp
        candidates = list(dict.fromkeys((kernel, 1.0) for kernel, _ in candidates))
    found = []
    for train, test in splits:
        folds = group_folds(groups[train], N_INNER)
        base = chosen(shares[train], y[train], folds, shares, 1, [("linear", 1.0)])
        above = y[train] - base[train]
        found.append(base[test] + chosen(x[train], above, folds, x[test], n_blocks, candidates))
    return np.concatenate(found)


def chosen(
    x: np.ndarray, y: np.ndarray, folds: Sequence, new: np.ndarray, n_blocks: int, choice: Sequence
) -> np.ndarray:
    """(n_new, n_targets) predictions by what the inner folds choose: candidate and strength."""
    losses = [
        sum(np.abs(y[b] - path(x[a], y[a], x[b], n_blocks, c)).sum(axis=1) for a, b in folds)
        for c in choice
    ]
    best, strength = np.divmod(np.concatenate(losses).argmin(axis=0), len(ALPHAS))
    found = np.empty((len(new), y.shape[1]))
    for which in np.unique(best):
        of = np.flatnonzero(best == which)
        predicted = path(x, y[:, of], new, n_blocks, choice[which])
        found[:, of] = predicted[strength[of], :, range(len(of))].T
    return found


def path(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, n_blocks: int, candidate: tuple
) -> np.ndarray:
    """(n_strengths, n_new, n_targets) predictions at every strength, from one factorisation."""
    kernel, damping = candidate
    spread, mean = x.std(axis=0), y.mean(axis=0)
    varies = spread > SINGLE * np.abs(x).max(axis=0)
    weights = varies * damping ** (np.arange(len(varies)) * n_blocks // len(varies))
    scale = weights / np.where(varies, spread, 1) / (np.linalg.norm(weights) or 1)
    x, new = ((t - x.mean(axis=0)) * scale for t in (x, new))
    values, vectors = np.linalg.eigh(between(x, x, kernel))
    inside, outside = vectors.T @ (y - mean), between(new, x, kernel) @ vectors
    return mean + np.stack([outside @ (inside / (values + a)[:, None]) for a in ALPHAS])


def between(a: np.ndarray, b: np.ndarray, kernel: str | float) -> np.ndarray:
    """(n_a, n_b) kernel of two tables of features."""
    return a @ b.T if kernel == "linear" else rbf_kernel(a, b, gamma=kernel)


def bootstrap_means(errors: np.ndarray, groups: Sequence, *, n_bootstrap: int = 500) -> np.ndarray:
    """Means over structures, and those of samples in which the groups are drawn anew.

    Errors of one sample of structures get the same draws, so that their ratios and differences have
    intervals of their own, by `comparison.estimate`.

    Parameters
    ----------
    errors
        (n_structures, n_columns), such as absolute errors of several targets.
    groups
        (n_structures,) labels of what is drawn together.
    n_bootstrap
        Number of samples.

    Returns
    -------
    numpy.ndarray
        (1 + n_bootstrap, n_columns), the mean over all first.

    Examples
    --------
    >>> from umlip_latents.comparison import estimate
    >>> errors = np.abs(np.random.default_rng(0).normal(size=(400, 2))) * [1, 2]
    >>> draws = bootstrap_means(errors, np.arange(400))
    >>> ratio = estimate(draws[:, 1] / draws[:, 0])
    >>> ratio.low < 2 < ratio.high
    True
    """
    of_group = pd.DataFrame(errors).groupby(np.asarray(groups))
    sums, sizes = of_group.sum().to_numpy(), of_group.size().to_numpy()
    return resampled_means(sums, sizes, n_bootstrap, np.random.default_rng(0))
