"""The maps of the LFRE: one for each test atom, from its nearest training atoms."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import torch

from ..resources import InputError
from .gfre import Pair, Tables
from .regression import Regularization, choose_inverses, two_folds

ATOMS_PER_TASK = 50


def local_residuals(
    atoms: np.ndarray,
    n_train: int,
    k: int,
    source: np.ndarray,
    *targets: np.ndarray,
    groups: np.ndarray | None = None,
    regularization: Regularization,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """What maps of its own miss of every test atom, from one source to each target.

    Parameters
    ----------
    atoms
        (n,) rows of the test atoms.
    n_train
        The first rows are those of the training atoms.
    k
        Training atoms nearest to the test atom that its map is fitted to.
    source, targets
        (n_rows, width) standardised features.
    groups
        (n_train,) label of each training atom, or None for folds by atom.
    regularization
        Chosen by the two folds of each neighbourhood.
    device
        Where the linear algebra runs.

    Returns
    -------
    numpy.ndarray
        (2, n_targets, n) norms: of what the maps miss, and of what the neighbours' mean misses.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> how = Regularization("cutoff", (1e-9,))
    >>> test = np.arange(50, 60)
    >>> missed, by_mean = local_residuals(test, 50, 8, x, 3 * x, regularization=how)
    >>> bool(missed.max() < 1e-9 < by_mean.min())
    True
    """
    x, *ys = (torch.as_tensor(table, device=device) for table in (source, *targets))
    widths, missed = [y.shape[1] for y in ys], []
    halves = two_folds(k)
    for atom, near in zip(atoms, nearest(x[atoms], x[:n_train], k), strict=True):
        labels = None if groups is None else groups[near.cpu()]
        has_folds = labels is None or len({*labels}) > 1
        if labels is not None and has_folds:
            halves = two_folds(k, labels, shuffle=False)
        near = near[np.concatenate(halves)]
        x_near, y_near = x[near], torch.cat([y[near] for y in ys], dim=1)
        x_mean, y_mean = x_near.mean(dim=0), y_near.mean(dim=0)
        of_mean = of_map = torch.cat([y[atom] for y in ys]) - y_mean
        if has_folds:  # or there is nothing to choose by
            y_near -= y_mean
            sizes = [len(half) for half in halves]
            u, f, vh = choose_inverses(
                x_near - x_mean, y_near, sizes, widths, regularization, sizes
            )
            shares = (vh @ (x[atom] - x_mean) * f) @ u.mT
            parts = zip(shares, y_near.split(widths, dim=1), strict=True)
            of_map = of_mean - torch.cat([share @ y for share, y in parts])
        missed.append(torch.stack([of_map, of_mean]))
    parts = torch.stack(missed, dim=1).split(widths, dim=2)
    return torch.stack([part.norm(dim=2) for part in parts], dim=1).cpu().numpy()


def nearest(x: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    """(n, k) rows of `others` nearest to each row of `x`."""
    # less the squared length of x, which puts none before another
    distance = torch.addmm(others.square().sum(dim=1), x, others.T, alpha=-2)
    return torch.topk(distance, k, dim=1, largest=False).indices


def local_tasks(
    tables: Tables, pairs: Iterable[Pair], n_train: int, n_local_points: int | None
) -> Iterator[tuple[list[Pair], tuple]]:
    """Pairs, and the arguments of `local_residuals`: some test atoms of one source."""

    def source_and_k(pair: Pair) -> tuple[str, int]:
        k = n_local_points or min(n_train, *(tables[name].shape[1] for name in pair))
        if not 4 <= k <= n_train:
            words = f"needs at least 4, and no more than the {n_train} training atoms"
            raise InputError(f"{k} local points from {pair[0]} to {pair[1]}: {words}.")
        return pair[0], k

    test = np.arange(n_train, len(next(iter(tables.values()))))
    for (source, k), some in groupby(sorted(pairs, key=source_and_k), source_and_k):
        some = list(some)
        for atoms in np.split(test, range(ATOMS_PER_TASK, len(test), ATOMS_PER_TASK)):
            targets = (tables[target] for _, target in some)
            yield some, (atoms, n_train, k, tables[source], *targets)
