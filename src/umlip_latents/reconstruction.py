r"""Global and local feature reconstruction errors (GFRE, LFRE) between models.

Both ask how well a linear map rebuilds the features of a target model from those of a source
(Goscinski et al., Mach. Learn.: Sci. Technol. 2, 025028, 2021). They are defined exactly as in
`skmatter.metrics`: features centred and scaled to unit total variance on the training atoms, a
least-squares map whose singular-value cutoff is chosen by two-fold cross-validation, the residual
norm over the test atoms. The work is shared between all pairs:

* **GFRE**: the triangular factors of one QR factorisation per fold, of all models side by side,
  stand in for all atoms (`factors.py`, also for features that are not in memory together).
* **LFRE**: the local problems of many test atoms are solved together, and a source is factorised
  once for all targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from .factors import Factors, check_spread, checked_table
from .regression import DEFAULT, Regression, TwoFoldRegression, folds
from .resources import InputError

METRICS = ("gfre", "lfre")
CHUNK = 1 << 20  # numbers in the local targets of the test atoms solved together


def split_atoms(
    n_atoms: np.ndarray, n_test: int, *, by: str = "atom", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test atoms, chosen atom by atom or structure by structure.

    Parameters
    ----------
    n_atoms
        (n_structures,), atoms of each structure.
    n_test
        Number of test atoms. By structure, whole structures are drawn until they hold that many,
        then atoms are dropped at random from the test part to reach it.
    by
        ``"atom"``: test atoms have siblings of the same structure in training, which leaks.
        ``"structure"``: no structure has atoms on both sides.

    Returns
    -------
    train, test : numpy.ndarray
        Sorted atom indices.
    """
    total = int(np.sum(n_atoms))
    if by not in ("atom", "structure"):
        raise InputError(f"{by}: a split goes by atom or by structure.")
    if not 0 < n_test < total - 1:
        raise InputError(f"n_test {n_test}: must lie between 1 and {total - 2} for {total} atoms.")
    rng = np.random.default_rng(seed)
    if by == "atom":
        order = rng.permutation(total)
        return np.sort(order[n_test:]), np.sort(order[:n_test])
    order = rng.permutation(len(n_atoms))
    n_structures = int(np.searchsorted(np.cumsum(np.asarray(n_atoms)[order]), n_test)) + 1
    held_out = np.isin(np.arange(len(n_atoms)), order[:n_structures])
    mask = np.repeat(held_out, n_atoms)
    train, test = np.flatnonzero(~mask), np.flatnonzero(mask)
    if len(train) < 2:
        raise InputError(f"n_test {n_test}: leaves no structure for training.")
    return train, np.sort(rng.choice(test, n_test, replace=False))


def subtract_element_means(
    features: np.ndarray, numbers: np.ndarray, train: np.ndarray
) -> np.ndarray:
    """Take the mean over the training atoms of the same element off every atom.

    What is left is how atoms of one element differ, the part that an element baseline cannot see.
    Atoms of an element without training atoms have no such mean and become zero: leave them out of
    the test with `of_seen_elements`.
    """
    x = np.asarray(features, dtype=np.float64)
    result = np.zeros_like(x)
    for z in np.unique(numbers[train]):
        result[numbers == z] = x[numbers == z] - x[train][numbers[train] == z].mean(axis=0)
    return result


def of_seen_elements(
    numbers: np.ndarray, train: np.ndarray, test: np.ndarray, *, at_least: int = 10
) -> np.ndarray:
    """The test atoms whose element has at least that many training atoms."""
    counts = np.bincount(numbers[train], minlength=numbers.max() + 1)
    return test[counts[numbers[test]] >= at_least]


def pointwise_global(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    *,
    regression: Regression = DEFAULT,
    device: str = "cpu",
) -> dict[tuple[str, str], np.ndarray]:
    """Residual norm of every test atom, for every ordered pair (source, target) of models."""
    one, two = folds(len(train))
    factors = Factors(device).update(features, (train[one], train[two], []))
    mean, scale = factors.standardization()
    together = np.concatenate([np.asarray(x)[test] for x in features.values()], axis=1)
    goal = (torch.from_numpy(together).to(mean) - mean) / scale
    errors = {}
    for source, target, weights in factors.maps(regression):
        s, t = factors.columns[source], factors.columns[target]
        errors[source, target] = (goal[:, t] - goal[:, s] @ weights).norm(dim=1).cpu().numpy()
    return errors


def scaled(features: np.ndarray, train: np.ndarray, name: str) -> np.ndarray:
    """Centre and scale to unit total variance on the training atoms."""
    x = checked_table(features, name)
    mean = x[train].mean(axis=0)
    scale = np.sqrt(x[train].var(axis=0).sum())
    check_spread(scale, np.abs(mean).max(), name)
    return (x - mean) / scale


def pointwise_local(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    *,
    n_local_points: int | None = None,
    regression: Regression = DEFAULT,
    device: str = "cpu",
    progress: bool = False,
) -> dict[tuple[str, str], np.ndarray]:
    """Local residual norm of every test atom, for every ordered pair (source, target) of models."""
    tables = {
        name: torch.from_numpy(scaled(x, train, name)).to(device) for name, x in features.items()
    }
    trained = {name: x[train] for name, x in tables.items()}
    tested = {name: x[test] for name, x in tables.items()}
    errors = {(s, t): np.empty(len(test)) for s in tables for t in tables}

    def solve(source: str, part: slice) -> int:
        points = {name: x[part] for name, x in tested.items()}
        found = local_residuals(source, trained, points, n_local_points, regression)
        for target, residual in found:
            errors[source, target][part] = residual.cpu().numpy()
        return len(points[source])

    widths = [x.shape[1] for x in tables.values()]
    chunk = max(1, CHUNK // (sum(widths) * (n_local_points or max(widths))))
    parts = [slice(i, i + chunk) for i in range(0, len(test), chunk)]
    tasks = [(source, part) for source in tables for part in parts]
    n_threads = torch.get_num_threads()
    bar = tqdm(total=len(tables) * len(test), desc="LFRE", unit="atom", disable=not progress)
    # many small matrices: one thread for each chunk, none inside
    with bar, ThreadPoolExecutor(n_threads, None, torch.set_num_threads, (1,)) as pool:
        try:
            for n_done in pool.map(solve, *zip(*tasks, strict=True)):
                bar.update(n_done)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(n_threads)
    return errors


def local_residuals(
    source: str,
    trained: Mapping[str, torch.Tensor],
    points: Mapping[str, torch.Tensor],
    n_local_points: int | None,
    regression: Regression,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Target by target, the local residual norm of a few test atoms."""
    x = trained[source]
    sizes: dict[int, list[str]] = {}
    for target, y in trained.items():
        k = n_local_points or min(x.shape[1], y.shape[1])
        if not 4 <= k <= len(x):
            raise InputError(
                f"{k} local points from {source} to {target}: needs at least 4, and no "
                f"more than the {len(x)} training atoms."
            )
        sizes.setdefault(k, []).append(target)
    nearest = neighbours(points[source], x, max(sizes))
    for k, targets in sizes.items():
        halves = folds(k)
        near = nearest[:, np.concatenate(halves)]
        n_rows = [len(half) for half in halves]
        local = x[near]
        mean = local.mean(dim=1, keepdim=True)
        local -= mean
        fitted = TwoFoldRegression(*local.split(n_rows, dim=1), local, n_rows, regression)
        goal = torch.cat([trained[target][near] for target in targets], dim=-1)
        centre = goal.mean(dim=1, keepdim=True)
        goal -= centre
        widths = [trained[target].shape[1] for target in targets]
        guesses = fitted.predict(
            points[source] - mean[:, 0], *goal.split(n_rows, dim=1), goal, widths
        )
        centres = centre[:, 0].split(widths, dim=-1)
        for target, guess, middle in zip(targets, guesses, centres, strict=True):
            yield target, (points[target] - middle - guess).norm(dim=1)


def neighbours(x: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    """(n, k) rows of `others` nearest to each row of `x`, nearest first."""
    distance = x.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * x @ others.T
    return torch.topk(distance, k, dim=1, largest=False).indices


def pointwise_errors(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    metric: str,
    *,
    n_local_points: int | None = None,
    regression: Regression = DEFAULT,
    device: str = "cpu",
    scheduler: Any = None,
    progress: bool = False,
) -> dict[tuple[str, str], np.ndarray]:
    """Error of every test atom for all ordered pairs, by either metric."""
    if metric not in METRICS:
        raise InputError(f"{metric}: no such metric, only {' and '.join(METRICS)}.")
    rows = {name: len(x) for name, x in features.items()}
    if len(set(rows.values())) > 1:
        raise InputError(f"Features of different numbers of atoms cannot be compared: {rows}.")
    train, test = np.asarray(train), np.asarray(test)
    if len(train) < 4 or len(test) < 1:
        raise InputError(f"{len(train)} training and {len(test)} test atoms are too few.")
    if metric == "gfre":
        return pointwise_global(features, train, test, regression=regression, device=device)
    options = {"n_local_points": n_local_points, "regression": regression, "device": device}
    if scheduler is not None:
        from .distributed import pointwise_local_chunks

        return pointwise_local_chunks(scheduler, features, train, test, **options)
    return pointwise_local(features, train, test, **options, progress=progress)


def root_mean_square(errors: np.ndarray) -> float:
    """From the errors of the test atoms to one number."""
    return float(np.sqrt(np.mean(np.square(errors))))


def reconstruction_matrix(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    metric: str = "gfre",
    *,
    n_local_points: int | None = None,
    regression: Regression = DEFAULT,
    device: str = "cpu",
    scheduler: Any = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Reconstruction errors of all ordered pairs: row = source, column = target.

    Parameters
    ----------
    features
        Name to (n_atoms, width), the same atoms in every table.
    train, test
        Atom indices, as from `split_atoms`.
    metric
        ``"gfre"`` or ``"lfre"``.
    n_local_points
        Neighbours of a local map; by default the smaller of the two widths.
    regression
        Regularization of the maps; by default that of `skmatter.metrics`.
    device
        Where the linear algebra runs, as PyTorch names it (``"cuda"``).
    scheduler
        Address of a Dask scheduler, or a `dask.distributed.Client`, whose workers share the LFRE;
        for the GFRE see `streaming_gfre`.
    progress
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        0: the source holds everything the target holds; 1: nothing (a test error may exceed 1).
    """
    errors = pointwise_errors(
        features,
        train,
        test,
        metric,
        n_local_points=n_local_points,
        regression=regression,
        device=device,
        scheduler=scheduler,
        progress=progress,
    )
    names = list(features)
    table = [[root_mean_square(errors[s, t]) for t in names] for s in names]
    return pd.DataFrame(table, index=pd.Index(names, name="source"), columns=names)


def global_reconstruction_error(
    source: np.ndarray,
    target: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    regression: Regression = DEFAULT,
    device: str = "cpu",
) -> float:
    r"""GFRE(source to target), :math:`\sqrt{\sum_i \|y_i - x_i W\|^2 / n_\mathrm{test}}`.

    Parameters
    ----------
    source, target
        (n_atoms, width), widths may differ.
    train, test
        Atom indices: W is fitted on the first and judged on the second.
    regression, device
        As in `reconstruction_matrix`.

    Returns
    -------
    float
        Equal to `skmatter.metrics.global_reconstruction_error`.
    """
    pair = {"source": source, "target": target}
    errors = pointwise_errors(pair, train, test, "gfre", regression=regression, device=device)
    return root_mean_square(errors["source", "target"])


def local_reconstruction_error(
    source: np.ndarray,
    target: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    n_local_points: int | None = None,
    regression: Regression = DEFAULT,
    device: str = "cpu",
) -> float:
    """LFRE(source to target): as the GFRE, one map per test atom on its nearest training atoms.

    Parameters
    ----------
    source, target
        (n_atoms, width), widths may differ.
    train, test
        Atom indices.
    n_local_points
        Neighbours in the source space; by default the smaller of the two widths.
    regression, device
        As in `reconstruction_matrix`.

    Returns
    -------
    float
        Equal to `skmatter.metrics.local_reconstruction_error`.
    """
    errors = pointwise_errors(
        {"source": source, "target": target},
        train,
        test,
        "lfre",
        n_local_points=n_local_points,
        regression=regression,
        device=device,
    )
    return root_mean_square(errors["source", "target"])


def bootstrap_interval(
    errors: np.ndarray, groups: Sequence[int], *, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the error over resampled test structures.

    Parameters
    ----------
    errors
        (n_test,) pointwise errors.
    groups
        (n_test,) structure of each test atom: atoms of one structure are drawn together.
    """
    _, group = np.unique(groups, return_inverse=True)
    squares = np.bincount(group, weights=np.square(errors))
    counts = np.bincount(group)
    draws = np.random.default_rng(seed).integers(len(counts), size=(n_resamples, len(counts)))
    values = np.sqrt(squares[draws].sum(axis=1) / counts[draws].sum(axis=1))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
