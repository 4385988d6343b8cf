r"""GFRE of features that are never in memory together, a block of atoms at a time.

The triangular factor R of a QR factorisation :math:`[\mathbf 1, X] = QR` stands in for the rows of
X at full precision, which a covariance matrix would not, and the factor of more rows is the factor
of the stacked factors: blocks are factorised anywhere, and their factors merged. The column of ones
keeps the number of atoms and their mean, which is known only at the end.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..resources import InputError
from .gfre import Tables, error_matrix, fit_pairs, global_residuals, global_tasks
from .parallel import run_tasks
from .preprocess import check_split, standardize
from .reconstruction import FitOptions
from .regression import two_folds

TASKS_PER_JOB = 4

Factors = list[np.ndarray]  # of the first fold, the second, and the test


def streaming_gfre(
    blocks: Sequence[Tables],
    train: np.ndarray,
    test: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    **options: Any,
) -> pd.DataFrame:
    """GFRE of all ordered pairs, from features that are never in memory together.

    Parameters
    ----------
    blocks
        Each a mapping of name to (rows, width), in the order of the atoms, such as `FeatureBlocks`
        or a list. The tasks read them, twice: for their sizes, and to factorise them. More rows
        than the widths add up to is efficient.
    train, test
        Atom indices over all blocks, as from `split_atoms`.
    groups
        As in `reconstruction_matrix`.
    **options
        ``regularization``, ``device`` and ``n_jobs`` of `FitOptions`.

    Returns
    -------
    pandas.DataFrame
        As `reconstruction_matrix` gives it: row = source, column = target.

    Raises
    ------
    InputError
        Blocks that do not fit together, or that hold fewer atoms than the split names.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> blocks = [{"plain": x[i : i + 20], "doubled": 2 * x[i : i + 20]} for i in (0, 20, 40)]
    >>> streaming_gfre(blocks, np.arange(40), np.arange(40, 60)).round(6).to_numpy().tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    train, test = np.asarray(train, dtype=int), np.asarray(test, dtype=int)
    check_split(train, test)
    how, n_jobs = FitOptions(**options).resolve(groups)
    shapes = run_tasks(block_shapes, [(blocks, i) for i in range(len(blocks))], n_jobs)
    widths = {name: width for name, (_, width) in shapes[0].items()}
    sizes = [next(iter(each.values()))[0] for each in shapes]
    for number, (each, size) in enumerate(zip(shapes, sizes, strict=True)):
        if each != {name: (size, width) for name, width in widths.items()}:
            words = "must hold the same atoms of every model, and the widths of all other blocks"
            raise InputError(f"Block {number}: {words}.")
    n_atoms, last = sum(sizes), max(train.max(), test.max())
    if last >= n_atoms:
        raise InputError(f"The blocks hold {n_atoms} atoms, the split names atom {last}.")
    halves = two_folds(len(train), None if groups is None else np.asarray(groups)[train])
    parts = np.full(n_atoms, -1)
    for i, atoms in enumerate([*(train[half] for half in halves), test]):
        parts[atoms] = i
    parts = np.split(parts, np.cumsum(sizes)[:-1])
    spans = np.array_split(range(len(blocks)), min(len(blocks), TASKS_PER_JOB * n_jobs))
    tasks = [(blocks, {i: parts[i] for i in span}, how["device"]) for span in spans]
    factors = merge_factors(run_tasks(factorize_blocks, tasks, n_jobs), how["device"])
    rows, lengths = np.vstack(factors), [*map(len, factors)]
    columns = np.split(rows[:, 1:], np.cumsum([*widths.values()])[:-1], axis=1)
    known, named = slice(sum(lengths[:2])), zip(widths, columns, strict=True)
    tables = {name: standardize(x, known, name, rows[:, 0]) for name, x in named}
    fit = partial(global_residuals, **how, n_samples=[*map(len, halves)])
    errors = fit_pairs(fit, global_tasks(tables, tables, product(tables, tables), lengths), n_jobs)
    return error_matrix(errors, [*widths], len(test))


def block_shapes(blocks: Sequence[Tables], number: int) -> dict[str, tuple[int, ...]]:
    """Atoms and width of every model in a block."""
    return {name: x.shape for name, x in blocks[number].items()}


def factorize_blocks(
    blocks: Sequence[Tables], parts: dict[int, np.ndarray], device: torch.device
) -> Factors:
    """The factors of some blocks by number, whose atoms are of these parts, one after the other."""
    factors = []
    for number, own in parts.items():
        x = np.hstack([np.ones((len(own), 1)), *blocks[number].values()], dtype=np.float64)
        factors = [merge_factors([*factors, [x[own == i] for i in range(3)]], device)]
    return factors[0]


def merge_factors(factors: Sequence[Factors], device: torch.device) -> Factors:
    """The factors of the atoms of all: R of the QR factorisation of the stacked ones."""
    stacks = [torch.as_tensor(np.vstack(some)) for some in zip(*factors, strict=True)]
    return [torch.linalg.qr(stack.to(device), "r").R.cpu().numpy() for stack in stacks]
