r"""Global and local feature reconstruction errors (GFRE, LFRE) between models.

Both ask how well a linear map rebuilds the features of a target model from those of a source
(Goscinski et al., Mach. Learn.: Sci. Technol. 2, 025028, 2021): features centred and scaled to
unit total variance on the training atoms, a regularised least-squares map whose strength two-fold
cross-validation chooses, the residual norm over the test atoms. With folds by atom they equal
`skmatter.metrics`; where whole structures are held out, the folds are drawn by structure too, or
siblings in both folds hide that nothing is regularised. The work is shared between all pairs:

* **GFRE**: a source is factorised once for all targets (`gfre`, also for features that are not in
  memory together, `streaming_gfre`).
* **LFRE**: so are the neighbours of each test atom (`lfre`).
* **Kernel error**: the GFRE from `kernel_features` of the source, which is kernel ridge regression.
  Where it lies far below the GFRE, the target is there, but bent.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from ..features.table import Features, common_structures
from ..resources import InputError, unknown_name
from . import METRICS, gfre, lfre
from .gfre import Pairwise, Tables, error_matrix
from .parallel import run_tasks
from .preprocess import check_split, standardize, subtract_element_means, varies, with_known_element
from .regression import FitOptions, two_folds
from .splitting import Atoms

PART = 200  # test atoms of a task of the LFRE
MEAN = "mean"  # the source that knows the training atoms' mean alone


def pointwise_errors(
    features: Tables, split: Atoms, metric: str, groups: np.ndarray | None, options: FitOptions
) -> Pairwise:
    """Error of every test atom for all ordered pairs (source, target) that are asked for.

    (1, n_test) residual norms of the regression; of the LFRE (2, n_test), the second those of the
    mean of the same neighbours, which no map should be worse than. The split has the indices of the
    training and the test atoms; groups and errors are those of `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> split = np.arange(30), np.arange(30, 40)
    >>> found = pointwise_errors({"a": x, "b": 3 * x}, split, "gfre", None, FitOptions())
    >>> found["a", "b"].shape, bool(found["a", "b"].max() < 1e-9)
    ((1, 10), True)
    """
    train, test = map(np.asarray, split)
    check_split(train, test)
    if metric not in METRICS:
        raise unknown_name(metric, "metric", METRICS)
    if len(counts := {len(x) for x in features.values()}) > 1:
        raise InputError(f"Features of different numbers of atoms cannot be compared: {counts}.")
    options = options.resolve(groups)
    groups = None if groups is None else np.asarray(groups)[train]
    folds = [train] if metric == "lfre" else [train[h] for h in two_folds(len(train), groups)]
    rows, known = np.concatenate([*folds, test]), slice(len(train))
    tables = {name: standardize(np.asarray(x)[rows], known, name) for name, x in features.items()}
    if metric == "lfre":
        fit = partial(lfre.local_residuals, options, groups, len(train))
        key = partial(lfre.source_and_k, options, tables, len(train))
        atoms = np.split(known.stop + np.arange(len(test)), range(PART, len(test), PART))
        return gfre.fit_pairs(fit, (tables, tables), options, atoms, key)
    sources, sizes = tables, [*map(len, folds)]
    if metric == "kernel":
        tasks = [(x, np.sort(train)) for x in features.values()]
        bent = zip(features, run_tasks(gfre.kernel_features, tasks, options.n_jobs), strict=True)
        sources = {name: standardize(x[rows], known, name) for name, x in bent}
    fit, parts = partial(gfre.global_residuals, options, sizes), [[*sizes, len(test)]]
    return gfre.fit_pairs(fit, (sources, tables), options, parts, gfre.BY_SOURCE)


def reconstruction_matrix(
    features: Tables,
    train: np.ndarray,
    test: np.ndarray,
    metric: str = "gfre",
    *,
    groups: np.ndarray | None = None,
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
        One of `METRICS`: ``"gfre"``, ``"lfre"``, ``"kernel"``.
    groups
        (n_atoms,) labels, such as the structure of each atom: the folds that choose the
        regularisation keep them together, as a test by structure asks for. A neighbourhood of a
        single group has nothing to choose by and predicts its mean. Without labels the folds are
        drawn by atom, as in `skmatter.metrics`.
    **options
        ``regularization``, ``n_local_points``, ``involving``, ``device``, ``n_jobs`` and
        ``progress`` of `FitOptions`.

    Returns
    -------
    pandas.DataFrame
        0: the source holds everything the target holds; 1: nothing (a test error may exceed 1).

    Raises
    ------
    InputError
        An unknown metric, tables of different lengths, features that are not finite or do not
        vary, too few atoms, neighbours or groups, a device that is not there.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> tables = {"both": x, "one": x[:, :1]}
    >>> matrix = reconstruction_matrix(tables, np.arange(200), np.arange(200, 300))
    >>> matrix.round(1).loc["both"].tolist()
    [0.0, 0.0]
    """
    split = train, test
    errors = pointwise_errors(features, split, metric, groups, FitOptions(**options))
    return error_matrix(errors, list(features), len(test))


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
        ``groups`` and others of `reconstruction_matrix`.

    Returns
    -------
    float
        Without options equal to `skmatter.metrics.global_reconstruction_error`.

    Raises
    ------
    InputError
        As `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> error = global_reconstruction_error(x, 3 * x - 1, np.arange(200), np.arange(200, 300))
    >>> error < 1e-12
    True
    """
    pair = {"source": source, "target": target}
    matrix = reconstruction_matrix(pair, train, test, "gfre", involving=[(*pair,)], **options)
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
        ``groups``, ``n_local_points`` and others of `reconstruction_matrix`.

    Returns
    -------
    float
        Without options equal to `skmatter.metrics.local_reconstruction_error`.

    Raises
    ------
    InputError
        As `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> split = np.arange(200), np.arange(200, 300)
    >>> bent = local_reconstruction_error(x, x**2, *split, n_local_points=20)
    >>> bent < global_reconstruction_error(x, x**2, *split)
    True
    """
    pair = {"source": source, "target": target}
    matrix = reconstruction_matrix(pair, train, test, "lfre", involving=[(*pair,)], **options)
    return float(matrix.loc["source", "target"])


def atom_errors(
    features: Mapping[str, Features],
    targets: Sequence[str] | None = None,
    *,
    within_element: bool = False,
    n_folds: int = 4,
) -> pd.DataFrame:
    r"""The global reconstruction error of every atom, by maps that have not seen its structure.

    The structures are dealt into folds. For each fold, one linear map per ordered pair is fitted to
    the others (`global_reconstruction_error`, regularised by structure), and the error of an atom i
    of the fold is :math:`\|y_i - x_i W\|`, in units of the target's spread over the training atoms.
    The root mean square over all atoms is a cross-validated GFRE.

    Parameters
    ----------
    features
        Name to features of the same structures; those are taken that all have.
    targets
        Names whose errors are asked for; by default all.
    within_element
        Take each element's mean over the training atoms off all features first. Features that then
        do not vary are left out, and atoms of an element with fewer than 10 training atoms are NaN.
    n_folds
        Folds of structures.

    Returns
    -------
    pandas.DataFrame
        A row per atom, by its ``structure``; a column per pair (``source``, ``target``). The source
        ``"mean"`` is what the training atoms' mean misses: all there is to miss.

    Raises
    ------
    InputError
        As `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(80, 2))
    >>> n_atoms, numbers, kept = np.full(40, 2), np.full(80, 14), np.arange(40)
    >>> tables = {"both": x, "one": x[:, :1]}
    >>> errors = atom_errors({n: Features(t, n_atoms, numbers, kept) for n, t in tables.items()})
    >>> errors.shape, bool(errors["both", "one"].max() < 1e-9)
    ((80, 4), True)
    """
    common = dict(zip(features, common_structures(list(features.values())), strict=True))
    one = next(iter(common.values()))
    pairs = [pair for pair in permutations(common, 2) if targets is None or pair[1] in targets]
    asked, errors = FitOptions(involving=pairs), []
    deal = np.random.default_rng(0).permutation(len(one.kept)) % n_folds
    fold = np.repeat(deal, one.n_atoms)
    for k in range(n_folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        tables = {name: f.features for name, f in common.items()}
        if within_element:
            tables = {n: subtract_element_means(x, one.numbers, train) for n, x in tables.items()}
            test = with_known_element(one.numbers, train, test)
        tables = {name: x for name, x in tables.items() if varies(x[train])}
        norms = pointwise_errors(tables, (train, test), "gfre", one.structure, asked)
        found = {pair: missed for pair, (missed,) in norms.items()}
        for name in dict.fromkeys(target for _, target in norms):
            found[MEAN, name] = np.linalg.norm(standardize(tables[name], train)[test], axis=1)
        errors.append(pd.DataFrame(found, index=test))
    table = pd.concat(errors).reindex(range(len(fold)))
    table.index = pd.Index(one.structure, name="structure")
    return table.rename_axis(["source", "target"], axis="columns")
