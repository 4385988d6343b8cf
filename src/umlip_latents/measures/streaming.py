r"""GFRE from one pass over the atoms, in memory that does not grow with their number.

The triangular factor R of a QR factorisation :math:`[\mathbf 1, X] = QR` stands in for the rows of
X at full precision, which a covariance matrix would not, and the factor of more rows is the factor
of the stacked factors: blocks of atoms can come one after the other, or from different machines.
The column of ones keeps the number of atoms and their mean, which is known only at the end.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..resources import InputError, torch_device
from .gfre import Tables, error_matrix, fit_pairs, global_residuals, global_tasks
from .parallel import count_jobs, run_tasks
from .preprocess import check_table, standardize
from .regression import Regularization, default_regularization, two_folds

BLOCKS_PER_JOB = 2  # in memory together


# widths by name; of the first fold, the second, and the test the triangular factors of all models
# side by side, after a column of ones
Factors = tuple[dict[str, int], list[np.ndarray]]


def streaming_gfre(
    blocks: Iterable[Tables],
    train: np.ndarray,
    test: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    regularization: Regularization | None = None,
    device: str = "auto",
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """GFRE of all ordered pairs, from features that are never in memory together.

    Parameters
    ----------
    blocks
        One mapping of name to (rows, width) after the other, in the order of the atoms; more rows
        than the widths add up to is efficient, as `FeatureBlocks` have them.
    train, test
        Atom indices over all blocks, as from `split_atoms`.
    groups, regularization, device, n_jobs
        As in `reconstruction_matrix`.

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
    device = torch_device(device)
    n_jobs = count_jobs(n_jobs, device)
    train, test = np.asarray(train, dtype=int), np.asarray(test, dtype=int)
    halves = two_folds(len(train), None if groups is None else np.asarray(groups)[train])
    tasks = locate_blocks(blocks, [*(train[half] for half in halves), test])
    factorize, factors = partial(factorize_block, device=device), []
    while some := list(islice(tasks, BLOCKS_PER_JOB * n_jobs)):
        factors = [merge_factors([*factors, *run_tasks(factorize, some, n_jobs)], device)]
    how = {"regularization": regularization or default_regularization(groups), "device": device}
    return factor_errors(*factors, n_jobs, **how)


def locate_blocks(
    blocks: Iterable[Tables], parts: Sequence[np.ndarray]
) -> Iterator[tuple[Tables, np.ndarray]]:
    """Every block, and the part that each of its atoms is of."""
    atoms = np.concatenate(parts)
    if len(np.unique(atoms)) < len(atoms):
        raise InputError("An atom is named twice among the training and test atoms.")
    part_of = np.full(atoms.max() + 1, len(parts))  # of none
    for i, part in enumerate(parts):
        part_of[part] = i
    start = 0
    for block in blocks:
        stop = start + len(next(iter(block.values())))
        yield block, part_of[start:stop]
        start = stop
    if start < len(part_of):
        words = f"The blocks hold {start} atoms, the split names atom {len(part_of) - 1}"
        raise InputError(f"{words}.")


def factorize_block(
    block: Tables, part_of: np.ndarray, device: str | torch.device = "cpu"
) -> Factors:
    """The factors of a block, of whose atoms the first ones are in parts 0 to 2."""
    tables = {name: check_table(x, name) for name, x in block.items()}
    if len({len(x) for x in tables.values()}) != 1:
        raise InputError("A block must hold the same atoms of every model.")
    x = np.insert(np.hstack([*tables.values()]), 0, 1.0, axis=1)
    parts = [triangular(x[np.flatnonzero(part_of == i)], device) for i in range(3)]
    return {name: x.shape[1] for name, x in tables.items()}, parts


def merge_factors(factors: Sequence[Factors], device: str | torch.device = "cpu") -> Factors:
    """The factors of the atoms of all."""
    all_widths, all_parts = zip(*factors, strict=True)
    if any(widths != all_widths[0] for widths in all_widths):
        raise InputError("A block holds other models or widths than another one.")
    stacks = map(np.vstack, zip(*all_parts, strict=True))
    return all_widths[0], [triangular(stack, device) for stack in stacks]


def triangular(x: np.ndarray, device: str | torch.device) -> np.ndarray:
    """R of the QR factorisation."""
    return torch.linalg.qr(torch.as_tensor(x, device=device), mode="r").R.cpu().numpy()


def factor_errors(factors: Factors, n_jobs: int = 1, **options: Any) -> pd.DataFrame:
    """GFRE of all ordered pairs of models from the factors of all atoms."""
    widths, parts = factors
    *n_train, n_test = (round(np.square(part[:, 0]).sum()) for part in parts)
    if min(n_train) < 2 or n_test < 1:
        raise InputError(f"{sum(n_train)} training and {n_test} test atoms are too few.")
    rows, sizes = np.vstack(parts), [*map(len, parts)]
    tables = np.split(rows[:, 1:], np.cumsum([*widths.values()])[:-1], axis=1)
    tables = {
        name: standardize(x, slice(sizes[0] + sizes[1]), name, rows[:, 0])
        for name, x in zip(widths, tables, strict=True)
    }
    tasks = global_tasks(tables, tables, product(tables, tables), sizes)
    function = partial(global_residuals, n_samples=n_train, **options)
    (errors,) = fit_pairs(function, tasks, n_jobs)
    return error_matrix(errors, [*tables], n_test)
