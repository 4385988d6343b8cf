"""The maps of the LFRE: one for each test atom, from its nearest training atoms."""

from collections import defaultdict

import numpy as np
import torch

from ..resources import InputError
from .gfre import Pair, Tables
from .regression import FitOptions, two_folds

NUMBERS_PER_BATCH = 1 << 20  # in the neighbours' targets of the test atoms solved together
DECIMALS = 10  # of squared distances: those that differ less are ties


def local_residuals(
    options: FitOptions,
    groups: np.ndarray | None,
    n_train: int,
    atoms: np.ndarray,
    k: int,
    *tables: np.ndarray,
) -> np.ndarray:
    """What maps of its own miss of every test atom, from one source to each target.

    Parameters
    ----------
    options
        The regularisation, chosen by the two folds of each neighbourhood, and the device.
    groups
        (n_train,) label of each training atom, or None for folds by atom.
    n_train
        The first rows are those of the training atoms.
    atoms
        (n,) rows of the test atoms.
    k
        Training atoms nearest to the test atom that its map is fitted to.
    tables
        (n_rows, width) standardised features: those of the source, then those of the targets.

    Returns
    -------
    numpy.ndarray
        (2, n_targets, n) norms: of what the maps miss, and of what the neighbours' mean misses.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> how = FitOptions(device="cpu").resolve(None)
    >>> missed, by_mean = local_residuals(how, None, 50, np.arange(50, 60), 8, x, 3 * x)
    >>> bool(missed.max() < 1e-9 < by_mean.min())
    True
    """
    x, *ys = (torch.as_tensor(table, device=options.device) for table in tables)
    widths, rules, batches = [y.shape[1] for y in ys], options.regularization, defaultdict(list)
    halves, whole = two_folds(k), (np.arange(k), np.arange(0))
    near = nearest(x[atoms], x[:n_train], k).cpu().numpy()
    for i, row in enumerate(near):
        if groups is not None:
            of_one = (groups[row] == groups[row[0]]).all()  # nothing to choose by
            halves = two_folds(k, groups[row], shuffle=False) if not of_one else whole
        near[i] = row[np.concatenate(halves)]
        batches[len(halves[0])].append(i)  # folds of one size are solved together
    missed = x.new_empty(2, len(atoms), sum(widths))
    at_once = max(1, NUMBERS_PER_BATCH // (k * sum(widths)))
    for n_first, members in batches.items():
        for part in np.split(np.array(members), range(at_once, len(members), at_once)):
            x_near, y_near = x[near[part]], torch.cat([y[near[part]] for y in ys], dim=2)
            x_mean, y_mean = x_near.mean(dim=1, keepdim=True), y_near.mean(dim=1, keepdim=True)
            missed[:, part] = torch.cat([y[atoms[part]] for y in ys], dim=1) - y_mean[:, 0]
            if n_first < k:
                x_near, y_near, sizes = x_near - x_mean, y_near - y_mean, [n_first, k - n_first]
                u, f, vh = rules.choose_inverses(x_near, y_near, sizes, widths, sizes)
                shares = ((x[atoms[part], None] - x_mean) @ vh.mT * f) @ u.mT
                parts = zip(shares.split(1, dim=1), y_near.split(widths, dim=2), strict=True)
                missed[0, part] -= torch.cat([share @ goal for share, goal in parts], dim=2)[:, 0]
    norms = [part.norm(dim=2) for part in missed.split(widths, dim=2)]
    return torch.stack(norms, dim=1).cpu().numpy()


def nearest(x: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    """(n, k) rows of `others` nearest to each row of `x`, the nearest first, ties in their order.

    Examples
    --------
    >>> nearest(torch.zeros(1, 1), torch.tensor([[1.0], [2.0], [0.0], [-1.0], [1.0]]), 3).tolist()
    [[2, 0, 3]]
    """
    # less the squared length of x, which puts none before another
    distance = torch.addmm(others.square().sum(1), x, others.T, alpha=-2).round(decimals=DECIMALS)
    # no more of a row than the k nearest and their ties, in their order, are sorted
    n_near = (distance <= distance.topk(k, largest=False).values[:, -1:]).sum(dim=1).max()
    near = distance.topk(n_near, largest=False).indices.sort(dim=1).values
    return near.gather(1, distance.gather(1, near).argsort(dim=1, stable=True)[:, :k])


def source_and_k(options: FitOptions, tables: Tables, n_train: int, pair: Pair) -> tuple[str, int]:
    """The source of a pair, and how many neighbours its maps are fitted to."""
    k = options.n_local_points or min(n_train, *(tables[name].shape[1] for name in pair))
    if not 4 <= k <= n_train:
        words = f"needs at least 4, and no more than the {n_train} training atoms"
        raise InputError(f"{k} local points from {pair[0]} to {pair[1]}: {words}.")
    return pair[0], k
