r"""Global and local feature reconstruction errors (GFRE, LFRE) between models.

Both ask how well a linear map rebuilds the features of a target model from those of a source
(Goscinski et al., Mach. Learn.: Sci. Technol. 2, 025028, 2021): features centred and scaled to
unit total variance on the training atoms, a regularised least-squares map whose strength two-fold
cross-validation chooses, the residual norm over the test atoms. With folds by atom they equal
`skmatter.metrics`; where whole structures are held out, the folds are drawn by structure too, or
siblings in both folds hide that nothing is regularised. The work is shared between all pairs:

* **GFRE**: the triangular factors of one QR factorisation per fold, of all models side by side,
  stand in for all atoms (`factors.py`, also for features that are not in memory together).
* **LFRE**: the local problems of many test atoms are solved together, and a source is factorised
  once for all targets (`neighbourhoods.py`).
* **GFRD**, the global feature reconstruction distortion of the same paper: what the best rotation
  of the source's features misses of the image of the linear map. 0: source and target, as far as it
  finds them, have the same shape; it sees stretching, the GFRE sees what is not there at all.
* **Kernel error**: the GFRE from `kernel_features` of the source, which is kernel ridge regression.
  Where it lies far below the GFRE, the target is there, but bent.
"""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.kernel_approximation import Nystroem

from .factors import Pairwise, TriangularFactors, error_matrix, part_labels
from .metrics import METRICS
from .nearness import median_distance
from .neighbourhoods import Pointwise, pointwise_local, scaled
from .regression import Regularization, default_regularization
from .resources import InputError, unknown

LANDMARKS = 300  # training atoms that span the features of a kernel
ENOUGH = 10  # training atoms of an element, to know its mean by


def subtract_element_means(
    features: np.ndarray, numbers: np.ndarray, train: np.ndarray
) -> np.ndarray:
    """Take the mean over the training atoms of the same element off every atom.

    What is left is how atoms of one element differ, the part that an element baseline cannot see.
    Atoms of an element without training atoms have no such mean and become zero: leave them out of
    the test with `of_known_elements`.

    Parameters
    ----------
    features
        (n_atoms, width).
    numbers
        (n_atoms,) atomic numbers.
    train
        Indices of the training atoms.

    Returns
    -------
    numpy.ndarray
        (n_atoms, width), float64.

    Examples
    --------
    >>> x, numbers = np.array([[1.0], [3.0], [5.0]]), np.array([8, 8, 8])
    >>> subtract_element_means(x, numbers, np.array([0, 1])).tolist()
    [[-1.0], [1.0], [3.0]]
    """
    x = np.asarray(features, dtype=np.float64)
    result = np.zeros_like(x)
    trained, elements = x[train], numbers[train]
    for z in np.unique(elements):
        result[numbers == z] = x[numbers == z] - trained[elements == z].mean(axis=0)
    return result


def of_known_elements(numbers: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The test atoms whose element has at least `ENOUGH` training atoms.

    Examples
    --------
    >>> numbers = np.array([8] * 12 + [14] * 2)
    >>> of_known_elements(numbers, np.arange(11), np.array([11, 12, 13])).tolist()
    [11]
    """
    counts = np.bincount(numbers[train], minlength=numbers.max() + 1)
    return test[counts[numbers[test]] >= ENOUGH]


def pointwise_errors(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    metric: str,
    *,
    groups: np.ndarray | None = None,
    pairs: Container[tuple[str, str]] | None = None,
    regularization: Regularization | None = None,
    n_local_points: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Pointwise:
    """Error of every test atom for all ordered pairs, or some `pairs`, by one metric.

    The other parameters, and the errors, are those of `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> parts = np.arange(30), np.arange(30, 40)
    >>> found = pointwise_errors({"a": x, "b": 3 * x}, *parts, "gfre").errors
    >>> found["a", "b"].shape, bool(found["a", "b"].max() < 1e-9)
    ((10,), True)
    """
    if metric not in METRICS:
        raise unknown(metric, "metric", METRICS)
    rows = {name: len(x) for name, x in features.items()}
    if len(set(rows.values())) > 1:
        raise InputError(f"Features of different numbers of atoms cannot be compared: {rows}.")
    train, test = np.asarray(train), np.asarray(test)
    if len(train) < 4 or len(test) < 1:
        raise InputError(f"{len(train)} training and {len(test)} test atoms are too few.")
    chosen = regularization or default_regularization(groups)
    if metric == "lfre":
        how = device, n_local_points, progress
        return pointwise_local(features, train, test, groups, pairs, chosen, *how)

    def residuals(tables: Mapping[str, np.ndarray], **options: Any) -> Pairwise:
        """Of every test atom, after the maps of all pairs, or what the options ask for."""
        factors = TriangularFactors(device).update(tables, part_labels(train, [], groups))
        mean, scale = factors.standardization()
        together = np.concatenate([np.asarray(x)[test] for x in tables.values()], axis=1)
        goal = (torch.from_numpy(together).to(mean) - mean) / scale
        return factors.residuals(goal, chosen, **options)

    if metric != "kernel":
        return Pointwise(residuals(features, pairs=pairs, turned=metric == "gfrd"))
    errors: Pairwise = {}
    for source, x in features.items():
        bent = f"kernel of {source}"
        known = {(bent, t): (source, t) for t in features if pairs is None or (source, t) in pairs}
        if known:
            found = residuals({bent: kernel_features(x, train), **features}, pairs=known)
            errors |= {known[pair]: missed for pair, missed in found.items()}
    return Pointwise(errors)


def kernel_features(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    r"""Features in which a linear map is kernel ridge regression on the given ones.

    The kernel has a straight and a bent part, :math:`x \cdot x' + \exp(-|x - x'|^2 / 2\sigma^2)`,
    for features of unit total variance and with the median of the distances between training atoms
    as :math:`\sigma`. The bent part is in the Nyström approximation.

    Parameters
    ----------
    features
        (n_atoms, width).
    train
        Indices of the training atoms, of which up to `LANDMARKS` span the bent part. With no more
        training atoms than that, the regression is exact.

    Returns
    -------
    numpy.ndarray
        (n_atoms, width + LANDMARKS), or fewer columns for fewer training atoms.

    Examples
    --------
    >>> kernel_features(np.random.default_rng(0).normal(size=(40, 2)), np.arange(30)).shape
    (40, 32)
    """
    x = scaled(features, train, "source")
    gamma = 1 / (2 * median_distance(x[train]) ** 2)
    count = min(LANDMARKS, len(train))
    bent = Nystroem(gamma=gamma, n_components=count, random_state=0).fit(x[train])
    return np.hstack([x, bent.transform(x)])


def reconstruction_matrix(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    metric: str = "gfre",
    **options: Any,
) -> pd.DataFrame:
    """Reconstruction errors of all ordered pairs: row = source, column = target.

    Parameters
    ----------
    features
        Name to (n_atoms, width), the same atoms in every table.
    train, test
        Atom indices, as from `split_atoms`.
    metric
        One of `METRICS`: ``"gfre"``, ``"lfre"``, ``"gfrd"``, ``"kernel"``.
    **options
        Those of the parameters below that are to differ from their defaults.

    Returns
    -------
    pandas.DataFrame
        0: the source holds everything the target holds; 1: nothing (a test error may exceed 1).

    Other Parameters
    ----------------
    groups
        (n_atoms,) labels, such as the structure of each atom: the folds that choose the
        regularisation keep them together, as a test by structure asks for. A neighbourhood of a
        single group has nothing to choose by and predicts its mean. Without labels the folds are
        drawn by atom, as in `skmatter.metrics`.
    regularization
        Of the maps; by default `CUTOFF`, that of `skmatter.metrics`, for folds by atom, and
        `TIKHONOV` for folds by group.
    n_local_points
        LFRE: neighbours of a local map; by default as many as the smaller of the two widths, or
        all training atoms where they are fewer.
    device
        Where the linear algebra runs, as PyTorch names it (``"cuda"``).
    progress
        LFRE: show a progress bar.

    Raises
    ------
    InputError
        An unknown metric, tables of different lengths, features that are not finite or do not
        vary, too few atoms, neighbours or groups.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> tables = {"both": x, "one": x[:, :1]}
    >>> matrix = reconstruction_matrix(tables, np.arange(200), np.arange(200, 300))
    >>> matrix.round(1).loc["both"].tolist()
    [0.0, 0.0]
    """
    errors = pointwise_errors(features, train, test, metric, **options).errors
    return error_matrix(errors, len(test))


def global_reconstruction_error(
    source: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, **options: Any
) -> float:
    r"""GFRE(source to target), :math:`\sqrt{\sum_i \|y_i - x_i W\|^2 / n_\mathrm{test}}`.

    Parameters
    ----------
    source, target
        (n_atoms, width), widths may differ.
    train, test
        Atom indices: W is fitted on the first and judged on the second.
    **options
        ``groups``, ``regularization`` and ``device`` of `reconstruction_matrix`.

    Returns
    -------
    float
        Without options equal to `skmatter.metrics.global_reconstruction_error`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> error = global_reconstruction_error(x, 3 * x - 1, np.arange(200), np.arange(200, 300))
    >>> error < 1e-12
    True
    """
    pair = {"source": source, "target": target}
    matrix = reconstruction_matrix(pair, train, test, "gfre", **options)
    return float(matrix.loc["source", "target"])


def local_reconstruction_error(
    source: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, **options: Any
) -> float:
    """LFRE(source to target): as the GFRE, one map per test atom on its nearest training atoms.

    Parameters
    ----------
    source, target
        (n_atoms, width), widths may differ.
    train, test
        Atom indices.
    **options
        ``groups``, ``regularization``, ``n_local_points`` and ``device`` of
        `reconstruction_matrix`.

    Returns
    -------
    float
        Without options equal to `skmatter.metrics.local_reconstruction_error`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> split = np.arange(200), np.arange(200, 300)
    >>> bent = local_reconstruction_error(x, x**2, *split, n_local_points=20)
    >>> bent < global_reconstruction_error(x, x**2, *split)
    True
    """
    pair = {"source": source, "target": target}
    matrix = reconstruction_matrix(pair, train, test, "lfre", **options)
    return float(matrix.loc["source", "target"])
