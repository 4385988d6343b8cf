r"""Global and local feature reconstruction errors (GFRE, LFRE) between models.

Both ask how well a linear map rebuilds the features of a target model from those of a source
(Goscinski et al., Mach. Learn.: Sci. Technol. 2, 025028, 2021): features centred and scaled to
unit total variance on the training atoms, a regularised least-squares map whose strength two-fold
cross-validation chooses, the residual norm over the test atoms. With folds by atom they equal
`skmatter.metrics`; where whole structures are held out, the folds are drawn by structure too, or
siblings in both folds hide that nothing is regularised. The work is shared between all pairs:

* **GFRE**: a source is factorised once for all targets (`gfre`, also for features that are not in
  memory together, `streaming`).
* **LFRE**: so are the neighbours of each test atom (`lfre`).
* **GFRD**, the global feature reconstruction distortion of the same paper: what the best rotation
  of the source's features misses of the image of the linear map. 0: source and target, as far as it
  finds them, have the same shape; it sees stretching, the GFRE sees what is not there at all.
* **Kernel error**: the GFRE from `kernel_features` of the source, which is kernel ridge regression.
  Where it lies far below the GFRE, the target is there, but bent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..resources import InputError, check_at_least, torch_device, unknown_name
from . import METRICS, gfre, lfre
from .gfre import Pair, Pairwise, Tables, error_matrix
from .parallel import count_jobs, run_tasks
from .preprocess import check_split, standardize
from .regression import CUTOFF, TIKHONOV, Regularization, two_folds


@dataclass(frozen=True)
class FitOptions:
    """How the maps behind the errors are fitted, and where.

    Attributes
    ----------
    regularization
        Of the maps; by default `CUTOFF`, that of `skmatter.metrics`, for folds by atom, and
        `TIKHONOV` for folds by group.
    n_local_points
        LFRE: neighbours of a local map; by default as many as the smaller of the two widths, or
        all training atoms where they are fewer.
    device
        Where the linear algebra runs, as PyTorch names it; ``"auto"`` is a GPU if there is one.
    n_jobs
        Tasks at a time: sources, for the LFRE also parts of the test atoms. By default all cores,
        or what `joblib.parallel_config` says.
    progress
        Show progress bars.
    involving
        Names, or ordered pairs (source, target): only the pairs that a name of these is part of,
        and these pairs, are worked out, all others stay NaN. The measures on the test atoms alone
        know all pairs.
    folds
        Of `compare`. ``"group"``: the folds that choose the regularisation keep together what the
        split does; ``"atom"``: those of `skmatter.metrics`. By default they follow the split.
    n_test_local
        Of `compare`: test atoms that the LFRE takes of each split; by default all.

    Raises
    ------
    InputError
        Unknown folds, or a number out of range.
    """

    regularization: Regularization | None = None
    n_local_points: int | None = None
    device: str | torch.device = "auto"
    n_jobs: int | None = None
    progress: bool = False
    involving: Sequence[str | tuple[str, str]] | None = None
    folds: str | None = None
    n_test_local: int | None = None

    def __post_init__(self) -> None:
        if self.folds not in (None, "atom", "group"):
            raise InputError(f"folds by {self.folds}: atom and group are known.")
        check_at_least(1, n_local_points=self.n_local_points, n_test_local=self.n_test_local)

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """The ordered pairs of some names that are asked for."""
        among = {*(self.involving or names)}
        pairs = [pair for pair in product(names, names) if {*pair, pair} & among]
        if not pairs:
            words = ", ".join(map(str, self.involving))
            raise InputError(f"involving {words}: none of these is compared.")
        return pairs

    def resolve(self, groups: np.ndarray | None) -> tuple[dict[str, Any], int]:
        """Regularisation and device, as the functions of a fit take them, and tasks at a time."""
        device, rules = torch_device(self.device), self.regularization
        rules = rules or (CUTOFF if groups is None else TIKHONOV)
        return {"regularization": rules, "device": device}, count_jobs(self.n_jobs, device)


def pointwise_errors(
    features: Tables,
    train: np.ndarray,
    test: np.ndarray,
    metric: str = "gfre",
    groups: np.ndarray | None = None,
    options: FitOptions = FitOptions(),
) -> Pairwise:
    """Error of every test atom for all ordered pairs (source, target) that are asked for.

    (1, n_test) residual norms of the regression; of the LFRE (2, n_test), the second those of the
    mean of the same neighbours, which no map should be worse than. Groups and errors are those of
    `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> parts = np.arange(30), np.arange(30, 40)
    >>> found = pointwise_errors({"a": x, "b": 3 * x}, *parts, "gfre")
    >>> found["a", "b"].shape, bool(found["a", "b"].max() < 1e-9)
    ((1, 10), True)
    """
    train, test = np.asarray(train), np.asarray(test)
    check_split(train, test)
    if metric not in METRICS:
        raise unknown_name(metric, "metric", METRICS)
    if len(counts := {len(x) for x in features.values()}) > 1:
        raise InputError(f"Features of different numbers of atoms cannot be compared: {counts}.")
    how, n_jobs = options.resolve(groups)
    groups = None if groups is None else np.asarray(groups)[train]
    parts = [train] if metric == "lfre" else [train[h] for h in two_folds(len(train), groups)]
    rows, known = np.concatenate([*parts, test]), slice(len(train))
    tables = sources = {n: standardize(np.asarray(x)[rows], known, n) for n, x in features.items()}
    wanted = options.pairs([*features])
    if metric == "lfre":
        tasks = lfre.local_tasks(tables, wanted, len(train), options.n_local_points)
        function = partial(lfre.local_residuals, **how, groups=groups)
    else:
        if metric == "kernel":
            tasks = [(x, np.sort(train)) for x in features.values()]
            bent = zip(features, run_tasks(gfre.kernel_features, tasks, n_jobs), strict=True)
            sources = {n: standardize(x[rows], known, n) for n, x in bent}
        tasks = gfre.global_tasks(sources, tables, wanted, [*map(len, parts), len(test)])
        function = partial(gfre.global_residuals, **how, distortion=metric == "gfrd")
    return gfre.fit_pairs(function, tasks, n_jobs, metric.upper() * options.progress)


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
        One of `METRICS`: ``"gfre"``, ``"lfre"``, ``"gfrd"``, ``"kernel"``.
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
    errors = pointwise_errors(features, train, test, metric, groups, FitOptions(**options))
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
