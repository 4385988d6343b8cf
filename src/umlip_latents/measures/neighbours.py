"""Who is near whom: measures of likeness that look at the neighbours of each atom.

Each takes the tables of all models, of the same atoms, since most of the work is done once for a
table, and returns the value of every ordered pair: row = source, column = target.

The atoms of one structure lie close to each other in every model. Neighbours are therefore sought
among the atoms of *other* structures, or two models would agree on nothing but which atoms share a
cell. Squared distances that differ by no more than `TIE` are ties: the environments of atoms that
symmetry makes equal, or all atoms of one element for a table that knows the element alone. They are
broken at random, for each table anew: what a table does not tell apart agrees with nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from ..resources import InputError
from .preprocess import standardize

Tables = Sequence[np.ndarray]  # (n_atoms, width) each

CHUNK = 1 << 20  # pairs of atoms that are looked at together
TIE = 1e-9  # in units of the total variance
ATOMS_PER_NEIGHBOUR = 100  # atoms to one of the neighbours that count


def neighbour_overlap(tables: Tables, groups: np.ndarray | None = None) -> np.ndarray:
    """Mutual k-nearest-neighbour overlap: the share of an atom's neighbours that two tables share.

    The mean over the atoms of the number of common ones among the k nearest, over k, which is a
    hundredth of the number of atoms. 1: the same neighbours; the share of a hundredth that chance
    gives: unrelated. It sees who is near and nothing else: neither how near, nor the order among
    the neighbours, nor how far groups of atoms lie apart. One direction blown up changes it.

    Parameters
    ----------
    tables
        As for `similarity.cka`.
    groups
        (n_atoms,) labels: neighbours are sought among atoms of other labels, such as structures;
        by default among all other atoms.

    Returns
    -------
    numpy.ndarray
        (n_tables, n_tables).

    Raises
    ------
    InputError
        As for `similarity.cka`, or all atoms are of one group.

    Examples
    --------
    >>> x, y = np.random.default_rng(0).normal(size=(2, 400, 2))
    >>> found = neighbour_overlap([x, x + 1, y])[0]
    >>> found[:2].round(3).tolist(), bool(found[2] < 0.05)
    ([1.0, 1.0], True)
    """
    return local_alignment(tables, groups, weighted=False)


def cknna(tables: Tables, groups: np.ndarray | None = None) -> np.ndarray:
    r"""Centred kernel nearest-neighbour alignment (Huh et al. 2024).

    .. math:: A(K, L) = \sum_{ij} \alpha_{ij} \bar K_{ij} \bar L_{ij} ,\qquad
              \frac{A(K, L)}{\sqrt{A(K, K) A(L, L)}}

    with the linear kernels of centred features, and :math:`\alpha_{ij}` 1 where j is among the k
    nearest neighbours of i in both tables, else 0. It lies between `cka` and `neighbour_overlap`:
    as the overlap it sees neighbours alone, but atoms far from the mean of all weigh most.

    Parameters, result and errors are those of `neighbour_overlap`.

    Examples
    --------
    >>> x, y = np.random.default_rng(0).normal(size=(2, 400, 2))
    >>> cknna([x, 2 * x[:, ::-1], y]).round(1)[0].tolist()
    [1.0, 1.0, 0.0]
    """
    return local_alignment(tables, groups, weighted=True)


def information_imbalance(tables: Tables, groups: np.ndarray | None = None) -> np.ndarray:
    r"""Information imbalance (Glielmo et al. 2022): what the nearest neighbour in one table tells.

    .. math:: \Delta(A \to B) = \frac{2}{N} \langle r^B \mid r^A = 1 \rangle ,

    the mean rank in B, among the N atoms of other groups, of the atom that is nearest in A. Near 0:
    who is near in A is near in B; 1: A tells nothing of B. It is directed: a table that holds more
    than another tells of it, not the other way round. It sees ranks of the nearest neighbour alone,
    in the norm of each table: a direction of small variance does not take part in it.

    Parameters, result and errors are those of `neighbour_overlap`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> both_to_one, one_to_both = information_imbalance([x, x[:, :1]])[[0, 1], [1, 0]]
    >>> bool(both_to_one < 0.1 < 0.2 < one_to_both)
    True
    """
    xs, groups = standardize_tables(tables), group_codes(tables, groups)
    n, rng = len(groups), np.random.default_rng(0)
    n_others = n - np.bincount(groups)[groups]
    total = np.zeros((len(xs), len(xs)))
    for part in row_chunks(n):
        squares = [squared_distances_to_others(x, part, groups, rng) for x in xs]
        nearest = [each.argmin(axis=1) for each in squares]
        for s, t in np.ndindex(total.shape):
            reached = np.take_along_axis(squares[t], nearest[s][:, None], axis=1)
            ranks = 1 + (squares[t] < reached).sum(axis=1)
            total[s, t] += (ranks / n_others[part]).sum()
    return 2 * total / n


def two_nn_dimension(features: np.ndarray, groups: np.ndarray | None = None) -> float:
    r"""Intrinsic dimension from the two nearest neighbours of every atom (Facco et al. 2017).

    For atoms spread evenly over a d-dimensional surface, :math:`\mu = r_2/r_1`, the ratio of the
    distances to both, is distributed as :math:`F(\mu) = 1 - \mu^{-d}`; d is the slope through the
    origin of :math:`-\log(1 - F)` against :math:`\log\mu` over the smallest 90 % of the ratios.
    It looks at the scale of the nearest neighbours, where noise has a say, and does not see how
    much variance a direction holds. Above some 10 it comes out too small. The two neighbours are of
    two groups, since two atoms that symmetry makes equal lie equally far. Atoms whose nearest
    neighbour is a tie are left out.

    Parameters
    ----------
    features
        (n_atoms, width).
    groups
        As for `neighbour_overlap`.

    Returns
    -------
    float
        0 and more.

    Raises
    ------
    InputError
        As for `neighbour_overlap`, or fewer than 10 atoms are left.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(2000, 2)) @ [[1, 0, 2], [0, 1, 1]]
    >>> round(two_nn_dimension(x))
    2
    """
    (x,), groups = standardize_tables([features]), group_codes([features], groups)
    rng = np.random.default_rng(0)
    order = np.argsort(groups)
    starts = np.searchsorted(groups[order], np.unique(groups))
    two = []
    for part in row_chunks(len(x)):
        squares = squared_distances_to_others(x, part, groups, rng)[:, order]
        of_groups = np.minimum.reduceat(squares, starts, axis=1)
        two.append(np.partition(of_groups, 1, axis=1)[:, :2])
    first, second = np.concatenate(two).T
    apart = (first > TIE) & np.isfinite(second)
    if apart.sum() < 10:
        raise InputError(f"{apart.sum()} atoms with two neighbours are too few for a dimension.")
    logs = np.sort(np.log(second[apart] / first[apart])) / 2
    below = -np.log1p(-np.arange(1, len(logs) + 1) / (len(logs) + 1))
    kept = slice(int(0.9 * len(logs)))
    return float(logs[kept] @ below[kept] / (logs[kept] @ logs[kept]))


def standardize_tables(tables: Tables) -> list[np.ndarray]:
    """Centred tables of unit total variance."""
    if len({len(x) for x in tables}) != 1 or len(tables[0]) < 4:
        raise InputError(f"Tables of {[len(x) for x in tables]} atoms: equally many, 4 at least.")
    every = np.arange(len(tables[0]))
    return [standardize(x, every, f"table {i}") for i, x in enumerate(tables)]


def group_codes(tables: Tables, groups: np.ndarray | None) -> np.ndarray:
    """(n_atoms,) labels from 0; without any, each atom has its own."""
    groups = np.unique(np.arange(len(tables[0])) if groups is None else groups, return_inverse=True)
    if len(groups[1]) != len(tables[0]) or len(groups[0]) < 2:
        raise InputError("Neighbours are sought among other groups: a label each, two at least.")
    return groups[1]


def row_chunks(n: int) -> Iterator[slice]:
    """Rows of n atoms that are looked at together, each against all."""
    size = max(1, CHUNK // n)
    return (slice(i, i + size) for i in range(0, n, size))


def median_distance(x: np.ndarray) -> float:
    """Of the distances that are not zero, among at most some 1,000 atoms, evenly taken."""
    squares = euclidean_distances(x[:: max(1, len(x) // 1000)], squared=True)
    return float(np.sqrt(np.median(squares[squares > TIE])))


def squared_distances_to_others(
    x: np.ndarray, part: slice, groups: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(n_part, n_atoms) squared distances to atoms of other groups, with ties broken, else inf."""
    squares = euclidean_distances(x[part], x, squared=True)
    squares += TIE * rng.random(squares.shape)
    squares[groups[part, None] == groups] = np.inf
    return squares


def normalize_products(products: np.ndarray) -> np.ndarray:
    """Scalar products of all pairs over the lengths of both."""
    lengths = np.sqrt(np.diag(products))
    return products / lengths / lengths[:, None]


def local_alignment(tables: Tables, groups: np.ndarray | None, *, weighted: bool) -> np.ndarray:
    """Cosines between who is whose neighbour, weighted by the linear kernel or not."""
    xs, groups = standardize_tables(tables), group_codes(tables, groups)
    n, rng = len(groups), np.random.default_rng(0)
    # no atom has fewer others than this
    k = min(max(1, n // ATOMS_PER_NEIGHBOUR), n - np.bincount(groups).max())
    products = np.zeros((len(xs), len(xs)))
    for part in row_chunks(n):
        rows = np.zeros((len(xs), len(groups[part]), n))
        for row, x in zip(rows, xs, strict=True):
            squares = squared_distances_to_others(x, part, groups, rng)
            near = np.argpartition(squares, k - 1, axis=1)[:, :k]
            of_near = np.take_along_axis(x[part] @ x.T, near, axis=1) if weighted else 1
            np.put_along_axis(row, near, of_near, axis=1)
        flat = rows.reshape(len(xs), -1)
        products += flat @ flat.T
    return normalize_products(products)
