r"""The maps of the GFRE: a source for all targets, in memory or a block of atoms at a time.

A linear map and its error depend on the training atoms only through what their features look like
from the axes of the source. The rows of each fold are therefore turned so that these axes come
first, and the regularisation is chosen on the few rows left.

The triangular factor R of a QR factorisation :math:`[\mathbf 1, X] = QR` stands in for the rows of
X at full precision, which a covariance matrix would not, and the factor of more rows is the factor
of the stacked factors: blocks are factorised anywhere, and their factors merged. The column of ones
keeps the number of atoms and their mean, which is known only at the end.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.kernel_approximation import Nystroem
from torch.nn.functional import pad

from ..resources import InputError
from .neighbours import median_distance
from .parallel import run_tasks
from .preprocess import check_split, standardize
from .regression import FitOptions, Regularization, two_folds

DIGITS = 1e-3  # a difference of squares below this share has lost three digits
LANDMARKS = 300  # training atoms that span the features of a kernel
TASKS_PER_JOB = 4  # parts of all blocks
BY_SOURCE = itemgetter(slice(1))  # of a pair

Tables = Mapping[str, np.ndarray]  # features by name
Pair = tuple[str, str]  # source and target
Rows = Sequence[torch.Tensor]  # (n_rows, width) of each part of the atoms
Pairwise = dict[Pair, np.ndarray]  # (n_kinds, n_test) norms
Factors = list[np.ndarray]  # of the first fold, the second, and the test


def global_residuals(
    options: FitOptions, n_samples: Sequence[int], sizes: Sequence[int], *tables: np.ndarray
) -> np.ndarray:
    """What linear maps from one source miss of each target, for every test row.

    Parameters
    ----------
    options
        The regularisation, chosen for each target by the two folds, and the device.
    n_samples
        Atoms of the two folds.
    sizes
        Rows of the tables in the first fold, in the second, and in the test, in this order: atoms,
        or fewer where factors stand in for them.
    tables
        (n_rows, width) standardised features, or factors: of the source, then of the targets.

    Returns
    -------
    numpy.ndarray
        (1, n_targets, n_test) norms.

    Examples
    --------
    >>> x, how = np.random.default_rng(0).normal(size=(30, 2)), Regularization("cutoff", (1e-9,))
    >>> missed = global_residuals(FitOptions(how, device="cpu"), (10, 10), (10, 10, 10), x, 3 * x)
    >>> bool(missed.max() < 1e-9)
    True
    """
    x, *ys = (torch.as_tensor(t, device=options.device).split([*sizes]) for t in tables)
    maps = fit_maps(x, ys, options.regularization, n_samples)
    norms = [(y[2] - x[2] @ weights).norm(dim=1) for weights, y in zip(maps, ys, strict=True)]
    return torch.stack(norms)[None].cpu().numpy()


def fit_maps(x: Rows, ys: Sequence[Rows], how: Regularization, n_samples: Sequence[int]) -> Rows:
    """(width, width of y) maps from a source to each target, by the rows of their two folds.

    What comes after these rows, such as those of the test, is not looked at. The number of samples
    of each fold is larger than that of its rows where factors stand in for atoms.
    """
    axes, own = zip(*map(torch.linalg.qr, x[:2]), strict=True)
    own = torch.cat([pad(r, (0, 0, 0, 1)) for r in own])  # nothing is left of the source
    # of the folds alone: there are axes for no more
    turned = [torch.cat([*map(project_onto, axes, y[:2])]) for y in ys]
    rows, widths = [1 + q.shape[1] for q in axes], [y.shape[1] for y in turned]
    columns = torch.cat(turned, dim=1)
    u, inverses, vh = how.choose_inverses(own, columns, rows, widths, n_samples)
    columns = zip(inverses, turned, strict=True)
    return [vh.mT @ (f[:, None] * (u.mT @ y)) for f, y in columns]


def project_onto(axes: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(n_axes + 1, width) columns turned so that the axes come first, and what is left of each.

    What is left is the difference from their squared lengths, or where that would lose digits, the
    length of what the axes miss.
    """
    first, squares = axes.mT @ columns, columns.square().sum(dim=0)
    left = squares - first.square().sum(dim=0)
    near = left < DIGITS * squares
    left[near] = (columns[:, near] - axes @ first[:, near]).square().sum(dim=0)
    return torch.cat([first, left.sqrt()[None]])


def kernel_features(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    r"""Features in which a linear map is kernel ridge regression on the given ones.

    The kernel has a straight and a bent part, :math:`x \cdot x' + \exp(-|x - x'|^2 / 2\sigma^2)`,
    for features of unit total variance and with the median of the distances between training atoms
    as :math:`\sigma`. The bent part is in the Nyström approximation.

    Parameters
    ----------
    features
        (n_atoms, width).
    train
        Indices of the training atoms, of which up to `LANDMARKS` span the bent part. With no more
        training atoms than that, the regression is exact.

    Returns
    -------
    numpy.ndarray
        (n_atoms, width + LANDMARKS), or fewer columns for fewer training atoms.

    Examples
    --------
    >>> kernel_features(np.random.default_rng(0).normal(size=(40, 2)), np.arange(30)).shape
    (40, 32)
    """
    x = standardize(features, train, "source")
    gamma = 1 / (2 * median_distance(x[train]) ** 2)
    count = min(LANDMARKS, len(train))
    bent = Nystroem(gamma=gamma, n_components=count, random_state=0).fit(x[train])
    return np.hstack([x, bent.transform(x)])


def fit_pairs(
    function: Callable, tables: Sequence[Tables], options: FitOptions, parts: list, key: Callable
) -> Pairwise:
    """Errors of all pairs that are asked for, from tasks that each have a source for many targets.

    Parameters
    ----------
    function
        Gives (n_kinds, n_targets, n) of the tables of a source and its targets.
    tables
        Features by name as they are sources, and as they are targets.
    options
        Which pairs, and how many tasks at a time.
    parts
        What the work of a source is divided by: the first argument of the function.
    key
        Of a pair: its source, then further arguments. Pairs that share it share a task.
    """
    (sources, targets), tasks, shared, errors = tables, [], defaultdict(list), defaultdict(list)
    for pair in options.pairs([*targets]):
        shared[key(pair)].append(pair)
    for (source, *more), pairs in shared.items():
        x = sources[source], *(targets[target] for _, target in pairs)
        tasks += [(pairs, (part, *more, *x)) for part in parts]
    found = run_tasks(function, [each for _, each in tasks], options.n_jobs, options.progress)
    for (pairs, _), norms in zip(tasks, found, strict=True):
        for i, pair in enumerate(pairs):
            errors[pair].append(norms[:, i])
    return {pair: np.concatenate(each, axis=1) for pair, each in errors.items()}


def error_matrix(errors: Pairwise, names: Sequence[str], n_test: int) -> pd.DataFrame:
    """Root mean squares over the test atoms, NaN for other pairs: row = source, column = target."""
    means = {pair: np.linalg.norm(norms[0]) / n_test**0.5 for pair, norms in errors.items()}
    return pd.Series(means).unstack().reindex(names, columns=names).rename_axis("source")


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
    how = FitOptions(**options).resolve(groups)
    shapes = run_tasks(block_shapes, [(blocks, i) for i in range(len(blocks))], how.n_jobs)
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
    spans = np.array_split(range(len(blocks)), min(len(blocks), TASKS_PER_JOB * how.n_jobs))
    tasks = [(blocks, {i: parts[i] for i in span}, how.device) for span in spans]
    factors = merge_factors(run_tasks(factorize_blocks, tasks, how.n_jobs), how.device)
    rows, lengths = np.vstack(factors), [*map(len, factors)]
    columns = np.split(rows[:, 1:], np.cumsum([*widths.values()])[:-1], axis=1)
    known, named = slice(sum(lengths[:2])), zip(widths, columns, strict=True)
    tables = {name: standardize(x, known, name, rows[:, 0]) for name, x in named}
    fit = partial(global_residuals, how, [*map(len, halves)])
    errors = fit_pairs(fit, (tables, tables), how, [lengths], BY_SOURCE)
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
