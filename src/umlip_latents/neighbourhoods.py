"""The local maps of the LFRE: the problems of many test atoms at once, a source for all targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from .factors import check_spread, checked_table
from .regression import Regularization, TwoFoldRegression, local_folds, two_folds
from .resources import InputError

CHUNK = 1 << 20  # numbers in the local targets of the test atoms solved together

Pairwise = dict[tuple[str, str], np.ndarray]


class Pointwise(NamedTuple):
    """(n_test,) residual norms for every ordered pair (source, target) of models.

    Attributes
    ----------
    errors
        Of the regression.
    neighbours
        LFRE: those of the mean of the same neighbours, which no map should be worse than.
    """

    errors: Pairwise
    neighbours: Pairwise | None = None


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
    groups: np.ndarray | None,
    regularization: Regularization,
    n_local_points: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Pointwise:
    """Residual norm of every test atom after a map of its own, fitted to its neighbours."""
    tables = {
        name: torch.from_numpy(scaled(x, train, name)).to(device) for name, x in features.items()
    }
    trained = {name: x[train] for name, x in tables.items()}
    tested = {name: x[test] for name, x in tables.items()}
    labels = None if groups is None else torch.as_tensor(group_numbers(groups)[train]).to(device)
    found = Pointwise(
        *({(s, t): np.empty(len(test)) for s in tables for t in tables} for _ in "12")
    )
    sizes = {name: local_sizes(name, trained, n_local_points) for name in tables}
    widths = [x.shape[1] for x in tables.values()]
    chunk = max(1, CHUNK // (sum(widths) * (n_local_points or max(widths))))
    parts = [np.arange(i, min(i + chunk, len(test))) for i in range(0, len(test), chunk)]
    near = {name: torch.empty(len(test), max(k), dtype=torch.long, device=device)
            for name, k in sizes.items()}  # fmt: skip
    n_threads = torch.get_num_threads()
    bar = tqdm(total=len(tables) * len(test), desc="LFRE", unit="atom", disable=not progress)

    def search(source: str, part: np.ndarray) -> None:
        near[source][part] = neighbours(tested[source][part], trained[source], max(sizes[source]))

    def solve(source: str, part: np.ndarray) -> int:
        points = {name: x[part] for name, x in tested.items()}
        for k, targets in sizes[source].items():
            problem = LocalProblem(source, trained, near[source][part, :k], labels)
            for target, errors, of_mean in problem.residuals(points, targets, regularization):
                found.errors[source, target][part] = errors.cpu().numpy()
                found.neighbours[source, target][part] = of_mean.cpu().numpy()
        return len(part)

    # many small matrices: one thread for each chunk, none inside
    with bar, ThreadPoolExecutor(n_threads, None, torch.set_num_threads, (1,)) as pool:
        try:
            list(
                pool.map(search, *zip(*((s, part) for s in tables for part in parts), strict=True))
            )
            tasks = [
                (source, part)
                for source in tables
                for part in alike_in_folds(near[source], labels, chunk)
            ]
            for n_done in pool.map(solve, *zip(*tasks, strict=True)):
                bar.update(n_done)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(n_threads)
    return found


def local_sizes(
    source: str, trained: Mapping[str, torch.Tensor], n_local_points: int | None
) -> dict[int, list[str]]:
    """The targets of a source by the number of neighbours that their local maps take."""
    sizes: dict[int, list[str]] = {}
    x = trained[source]
    for target, y in trained.items():
        k = n_local_points or min(x.shape[1], y.shape[1], len(x))
        if not 4 <= k <= len(x):
            raise InputError(
                f"{k} local points from {source} to {target}: needs at least 4, and no "
                f"more than the {len(x)} training atoms."
            )
        sizes.setdefault(k, []).append(target)
    return sizes


def neighbours(x: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    """(n, k) rows of `others` nearest to each row of `x`, nearest first."""
    distance = x.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * x @ others.T
    return torch.topk(distance, k, dim=1, largest=False).indices


def alike_in_folds(near: torch.Tensor, labels: torch.Tensor | None, chunk: int) -> list[np.ndarray]:
    """Chunks of test atoms, those together whose neighbourhoods fall into like halves.

    Halves are padded to the largest of their chunk, which so costs little.
    """
    order = np.arange(len(near))
    if labels is not None:
        sides = [local_folds(part) for part in labels[near].split(chunk)]
        order = torch.cat([side.sum(dim=1) for side in sides]).argsort(stable=True).cpu().numpy()
    return [order[i : i + chunk] for i in range(0, len(order), chunk)]


class LocalProblem:
    """The neighbourhoods of a few test atoms in the features of one source.

    Parameters
    ----------
    source
        Name of the source.
    trained
        (n_train, width) standardised features of every model.
    near
        (n_test, k) training atoms nearest to each test atom.
    labels
        (n_train,) group of each training atom, or None for folds by atom.
    """

    def __init__(
        self,
        source: str,
        trained: Mapping[str, torch.Tensor],
        near: torch.Tensor,
        labels: torch.Tensor | None,
    ) -> None:
        self.source, self.trained, self.n_points = source, trained, near.shape[1]
        if labels is None:
            halves = two_folds(self.n_points)
            self.near = near[:, np.concatenate(halves)]
            self.n_rows: Sequence = [len(half) for half in halves]
            self.longest = list(self.n_rows)
            self.masks = None
        else:
            side = local_folds(labels[near])
            # those of the first half, then those of the second
            self.near = near.gather(1, side.argsort(dim=1, stable=True))
            n_second = side.sum(dim=1)
            self.n_rows = [self.n_points - n_second, n_second]
            self.longest = [max(1, int(n.max())) for n in self.n_rows]
            place = torch.arange(self.n_points, device=near.device)
            self.masks = place < self.n_rows[0][:, None], place >= self.n_rows[0][:, None]

    def halves(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_test, rows, width) the two folds of the neighbours' features, padded with zeros."""
        if self.masks is None:
            return x.split(self.longest, dim=1)
        first, second = (x * mask[..., None] for mask in self.masks)
        return first[:, : self.longest[0]], second[:, self.n_points - self.longest[1] :]

    def residuals(
        self,
        points: Mapping[str, torch.Tensor],
        targets: Sequence[str],
        regularization: Regularization,
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Target by target, the residual norms of the map and of the neighbours' mean."""
        local = self.trained[self.source][self.near]
        mean = local.mean(dim=1, keepdim=True)
        local -= mean
        fitted = TwoFoldRegression(*self.halves(local), local, self.n_rows, regularization)
        goal = torch.cat([self.trained[target][self.near] for target in targets], dim=-1)
        centre = goal.mean(dim=1, keepdim=True)
        goal -= centre
        widths = [self.trained[target].shape[1] for target in targets]
        guesses = fitted.predict(points[self.source] - mean[:, 0], *self.halves(goal), goal, widths)
        for target, guess, middle in zip(
            targets, guesses, centre[:, 0].split(widths, dim=-1), strict=True
        ):
            off = points[target] - middle
            yield target, (off - guess).norm(dim=1), off.norm(dim=1)


def group_numbers(groups: Sequence) -> np.ndarray:
    """Labels of any kind as whole numbers."""
    return np.unique(groups, return_inverse=True)[1].reshape(-1)
