r"""Global and local feature reconstruction errors (GFRE, LFRE) between models.

Both ask how well a linear map rebuilds the features of a target model from those of a source
(Goscinski et al., Mach. Learn.: Sci. Technol. 2, 025028, 2021). They are defined exactly as in
`skmatter.metrics`: features centred and scaled to unit total variance on the training atoms, a
least-squares map whose singular-value cutoff is chosen by two-fold cross-validation, the residual
norm over the test atoms. The work is shared between all pairs:

* **GFRE**: a map depends on the data only through products of their columns, so the triangular
  factors of one QR factorisation per fold, of all models side by side, stand in for all atoms.
* **LFRE**: the local problems of many test atoms are solved together, and a source is factorised
  once for all targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import KFold
from tqdm.auto import tqdm

from .resources import InputError

METRICS = ("gfre", "lfre")
# the choices of skmatter.metrics: relative cutoffs, seed of the two folds
CUTOFFS = np.geomspace(1e-9, 0.9, 20)
FOLD_SEED = 0x5F3759DF
CHUNK = 64  # test atoms whose local problems are solved together


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


class TwoFoldRegression:
    r"""Batched least squares whose singular-value cutoff is chosen by two-fold cross-validation.

    The estimator of `skmatter.linear_model.Ridge2FoldCV` with relative cutoffs. For one source it
    is factorised once and then fitted to any number of targets. With the singular values
    :math:`s_j`, vectors :math:`u_j, v_j` of one fold, keeping r of them predicts the other fold as
    :math:`\sum_{j \le r} a_j b_j^T`, :math:`a_j = X' v_j / s_j`, :math:`b_j = Y^T u_j`. The
    squared residual of each target column changes with the r-th term by
    :math:`-2 b_r (a_r^T y' - \sum_{j<r} a_r^T a_j b_j) + a_r^T a_r b_r^2`, so that the loss at
    every cutoff follows from one Gram matrix of the :math:`a_j` and a cumulative sum.

    Parameters
    ----------
    first, second
        (batch, rows, width): the source in the two folds.
    whole
        (batch, rows, width): the source in both.
    n_rows
        Samples in the two folds: more than the rows above if these are triangular factors.
    """

    def __init__(
        self,
        first: torch.Tensor,
        second: torch.Tensor,
        whole: torch.Tensor,
        n_rows: tuple[int, int],
    ) -> None:
        self.n_rows = n_rows
        eps = torch.finfo(whole.dtype).eps
        tiny = max(sum(n_rows), whole.shape[-1]) * eps
        svds = [torch.linalg.svd(x, full_matrices=False) for x in (first, second)]
        largest = torch.maximum(svds[0].S[:, 0], svds[1].S[:, 0])
        self.cutoffs = largest[:, None] * torch.as_tensor(CUTOFFS, dtype=whole.dtype)
        self.halves = []
        for (u, s, vh), other in zip(svds, (second, first), strict=True):
            usable = s > tiny
            inverse = torch.where(usable, 1 / torch.where(usable, s, 1.0), 0.0)
            a = (other @ vh.mT) * inverse[:, None, :]
            ranks = ((s[:, None, :] > self.cutoffs[:, :, None]) & usable[:, None, :]).sum(-1)
            self.halves.append((u, a, a.mT @ a, ranks))
        self.u, self.s, self.vh = torch.linalg.svd(whole, full_matrices=False)

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
        """(batch, n_cutoffs) cross-validated error, the root mean square averaged over columns."""
        total = np.zeros(self.cutoffs.shape)
        pairs = ((first, second, self.n_rows[1]), (second, first, self.n_rows[0]))
        for (u, a, gram, ranks), (y, y_other, n) in zip(self.halves, pairs, strict=True):
            b = u.mT @ y
            cross = a.mT @ y_other - torch.tril(gram, -1) @ b
            step = b * (gram.diagonal(dim1=-2, dim2=-1)[..., None] * b - 2 * cross)
            start = (y_other**2).sum(dim=1, keepdim=True)
            path = torch.cat([start, start + torch.cumsum(step, dim=1)], dim=1).clamp(min=0)
            rmse = (path / n).sqrt().mean(dim=-1)
            total += torch.gather(rmse, 1, ranks).numpy()
        return total

    def fit(self, first: torch.Tensor, second: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """(batch, width, n_targets) weights of the map to a target."""
        # the first of equal losses, as scikit-matter takes it
        best = torch.from_numpy(np.argmin(self.loss(first, second), axis=1))
        cutoff = torch.gather(self.cutoffs, 1, best[:, None])
        inverse = torch.where(self.s > cutoff, 1 / self.s, 0.0)
        return self.vh.mT @ (inverse[..., None] * (self.u.mT @ whole))


def scaled(features: np.ndarray, train: np.ndarray, name: str) -> np.ndarray:
    """Centre and scale to unit total variance on the training atoms."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise InputError(f"{name}: features must be a table (n_atoms, width).")
    if not np.isfinite(x).all():
        raise InputError(f"{name}: features hold a value that is not a finite number.")
    mean = x[train].mean(axis=0)
    scale = np.sqrt(x[train].var(axis=0).sum())
    if scale <= 1e-12 * (1 + np.abs(mean).max()):
        raise InputError(f"{name}: features do not vary over the training atoms.")
    return (x - mean) / scale


def folds(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of n samples."""
    return next(KFold(2, shuffle=True, random_state=FOLD_SEED).split(np.zeros(n)))


def triangular(x: np.ndarray) -> torch.Tensor:
    """R of the QR factorisation."""
    return torch.from_numpy(np.linalg.qr(x, mode="r"))


def pointwise_global(
    features: Mapping[str, np.ndarray], train: np.ndarray, test: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """Residual norm of every test atom, for every ordered pair (source, target) of models."""
    blocks = {name: scaled(x, train, name) for name, x in features.items()}
    ends = np.cumsum([0, *(x.shape[1] for x in blocks.values())])
    columns = dict(zip(blocks, map(slice, ends[:-1], ends[1:]), strict=True))
    together = np.concatenate(list(blocks.values()), axis=1)
    one, two = folds(len(train))
    first, second = triangular(together[train[one]]), triangular(together[train[two]])
    whole = triangular(np.concatenate([first, second]))
    errors = {}
    for source, s in columns.items():
        regression = TwoFoldRegression(
            first[None, :, s], second[None, :, s], whole[None, :, s], (len(one), len(two))
        )
        for target, t in columns.items():
            weights = regression.fit(first[None, :, t], second[None, :, t], whole[None, :, t])
            residual = together[test, t] - together[test, s] @ weights[0].numpy()
            errors[source, target] = np.linalg.norm(residual, axis=1)
    return errors


def pointwise_local(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    *,
    n_local_points: int | None = None,
    progress: bool = False,
) -> dict[tuple[str, str], np.ndarray]:
    """Local residual norm of every test atom, for every ordered pair (source, target) of models."""
    blocks = {name: torch.from_numpy(scaled(x, train, name)) for name, x in features.items()}
    errors = {(s, t): np.empty(len(test)) for s in blocks for t in blocks}
    with tqdm(total=len(blocks) * len(test), desc="LFRE", unit="atom", disable=not progress) as bar:
        for source, x in blocks.items():
            sizes: dict[int, list[str]] = {}
            for target, y in blocks.items():
                k = n_local_points or min(x.shape[1], y.shape[1])
                if not 4 <= k <= len(train):
                    raise InputError(
                        f"{k} local points from {source} to {target}: needs at least 4, and no "
                        f"more than the {len(train)} training atoms."
                    )
                sizes.setdefault(k, []).append(target)
            x_train = x[train]
            norms = (x_train**2).sum(dim=1)
            for start in range(0, len(test), CHUNK):
                part = slice(start, start + CHUNK)
                x_test = x[test[part]]
                distance = (x_test**2).sum(dim=1)[:, None] + norms - 2 * x_test @ x_train.T
                nearest = torch.topk(distance, max(sizes), dim=1, largest=False).indices
                for k, targets in sizes.items():
                    near = torch.from_numpy(train)[nearest[:, :k]]
                    one, two = folds(k)
                    local = x[near]
                    mean = local.mean(dim=1, keepdim=True)
                    local = local - mean
                    regression = TwoFoldRegression(
                        local[:, one], local[:, two], local, (len(one), len(two))
                    )
                    for target in targets:
                        y = blocks[target]
                        goal = y[near]
                        y_mean = goal.mean(dim=1, keepdim=True)
                        goal = goal - y_mean
                        weights = regression.fit(goal[:, one], goal[:, two], goal)
                        guess = y_mean + (x_test[:, None] - mean) @ weights
                        residual = y[test[part]] - guess[:, 0]
                        errors[source, target][part] = residual.norm(dim=1).numpy()
                bar.update(len(x_test))
    return errors


def pointwise_errors(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    metric: str,
    *,
    n_local_points: int | None = None,
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
        return pointwise_global(features, train, test)
    return pointwise_local(features, train, test, n_local_points=n_local_points, progress=progress)


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
    progress
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        0: the source holds everything the target holds; 1: nothing (a test error may exceed 1).
    """
    errors = pointwise_errors(
        features, train, test, metric, n_local_points=n_local_points, progress=progress
    )
    names = list(features)
    table = [[root_mean_square(errors[s, t]) for t in names] for s in names]
    return pd.DataFrame(table, index=pd.Index(names, name="source"), columns=names)


def global_reconstruction_error(
    source: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    r"""GFRE(source to target), :math:`\sqrt{\sum_i \|y_i - x_i W\|^2 / n_\mathrm{test}}`.

    Parameters
    ----------
    source, target
        (n_atoms, width), widths may differ.
    train, test
        Atom indices: W is fitted on the first and judged on the second.

    Returns
    -------
    float
        Equal to `skmatter.metrics.global_reconstruction_error`.
    """
    errors = pointwise_errors({"source": source, "target": target}, train, test, "gfre")
    return root_mean_square(errors["source", "target"])


def local_reconstruction_error(
    source: np.ndarray,
    target: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    n_local_points: int | None = None,
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

    Returns
    -------
    float
        Equal to `skmatter.metrics.local_reconstruction_error`.
    """
    errors = pointwise_errors(
        {"source": source, "target": target}, train, test, "lfre", n_local_points=n_local_points
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
