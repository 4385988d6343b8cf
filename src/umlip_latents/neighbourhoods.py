"""The local maps of the LFRE: the problems of many test atoms at once, a source for all targets."""

from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product, repeat
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from .factors import Pairwise, check_spread, checked_table
from .regression import Folds, Regularization, TwoFoldRegression, local_folds, two_folds
from .resources import InputError

CHUNK = 1 << 20  # numbers in the local targets of the test atoms solved together
SEARCHED = 1 << 24  # distances from the test atoms whose neighbours are looked for together


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
    known = x[train]
    mean = known.mean(axis=0)
    scale = np.sqrt(known.var(axis=0).sum())
    check_spread(scale, np.abs(mean).max(), name)
    x = x - mean
    return np.divide(x, scale, out=x)


def pointwise_local(
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    groups: np.ndarray | None,
    wanted: Container[tuple[str, str]] | None,
    regularization: Regularization,
    device: str,
    n_local_points: int | None,
    progress: bool,
) -> Pointwise:
    """Residual norm of every test atom after a map of its own, fitted to its neighbours."""
    trained, tested = {}, {}
    for name, table in features.items():
        x = torch.from_numpy(scaled(table, train, name))
        trained[name], tested[name] = x[train].to(device), x[test].to(device)
    labels = None
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        labels = torch.as_tensor(numbers[train]).to(device)
    pairs = [pair for pair in product(features, features) if wanted is None or pair in wanted]
    found = Pointwise(*({pair: np.empty(len(test)) for pair in pairs} for _ in "12"))
    sources = list(dict.fromkeys(source for source, _ in pairs))
    sizes = {name: local_sizes(name, trained, n_local_points) for name in features}
    widths = [x.shape[1] for x in trained.values()]
    chunk = max(1, CHUNK // (sum(widths) * (n_local_points or max(widths))))
    n_searched = min(chunk, max(1, SEARCHED // len(train)))
    n_threads = torch.get_num_threads()
    bar = tqdm(total=len(sources) * len(test), desc="LFRE", unit="atom", disable=not progress)

    def solve(source: str, part: np.ndarray) -> int:
        points = {name: x[part] for name, x in tested.items()}
        for k, every in sizes[source].items():
            targets = [target for target in every if (source, target) in found.errors]
            if not targets:
                continue
            problem = source, targets, points, trained, near[source][part, :k], labels
            for target, errors, of_mean in local_residuals(*problem, regularization):
                found.errors[source, target][part] = errors.cpu().numpy()
                found.neighbours[source, target][part] = of_mean.cpu().numpy()
        return len(part)

    # many small matrices: one thread for each chunk, none inside
    with bar, ThreadPoolExecutor(n_threads, None, torch.set_num_threads, (1,)) as pool:
        try:
            searches = {}
            for name, x in tested.items():
                among = trained[name], trained[name].square().sum(dim=1), max(sizes[name])
                searches[name] = pool.map(neighbours, x.split(n_searched), *map(repeat, among))
            near = {name: torch.cat(list(parts)) for name, parts in searches.items()}
            tasks = [(n, part) for n in sources for part in alike_in_folds(near[n], labels, chunk)]
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


def neighbours(
    x: torch.Tensor, others: torch.Tensor, squares: torch.Tensor, k: int
) -> torch.Tensor:
    """(n, k) rows of `others`, whose squared lengths are given, nearest to each row of `x`."""
    # less the squared length of x, which puts none before another
    distance = torch.addmm(squares, x, others.T, alpha=-2)
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


def local_residuals(
    source: str,
    targets: Sequence[str],
    points: Mapping[str, torch.Tensor],
    trained: Mapping[str, torch.Tensor],
    near: torch.Tensor,
    labels: torch.Tensor | None,
    regularization: Regularization,
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Target by target, the residual norms of the local maps and of the neighbours' mean.

    Parameters
    ----------
    source, targets
        Names.
    points, trained
        (n_test, width) and (n_train, width) standardised features of every model.
    near
        (n_test, k) training atoms nearest to each test atom.
    labels
        (n_train,) group of each training atom, or None for folds by atom.
    regularization
        As in `pointwise_local`.
    """
    if labels is None:
        side = torch.zeros_like(near)
        side[:, two_folds(near.shape[1])[1]] = 1
    else:
        side = local_folds(labels[near])
    # those of the first half, then those of the second
    near = near.gather(1, side.argsort(dim=1, stable=True))
    is_second = side.sort(dim=1).values.bool()[..., None]
    n_second = side.sum(dim=1)
    n_rows = near.shape[1] - n_second, n_second
    stop, start = max(1, int(n_rows[0].max())), min(int(n_rows[0].min()), near.shape[1] - 1)

    def folded(x: torch.Tensor) -> Folds:
        """(n_test, rows, width) the two folds of the neighbours' features, padded with zeros."""
        return x[:, :stop] * ~is_second[:, :stop], x[:, start:] * is_second[:, start:], x

    local = trained[source][near]
    mean = local.mean(dim=1, keepdim=True)
    local -= mean
    fitted = TwoFoldRegression(folded(local), n_rows, regularization)
    goal = torch.cat([trained[target][near] for target in targets], dim=-1)
    centre = goal.mean(dim=1, keepdim=True)
    goal -= centre
    widths = [trained[target].shape[1] for target in targets]
    guesses = fitted.predict(points[source] - mean[:, 0], folded(goal), widths)
    middles = centre[:, 0].split(widths, dim=-1)
    for target, guess, middle in zip(targets, guesses, middles, strict=True):
        off = points[target] - middle
        yield target, (off - guess).norm(dim=1), off.norm(dim=1)
