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

TIE = 1e-9  # in units of the total variance
ATOMS_PER_NEIGHBOUR = 100  # atoms to one of the neighbours that count


def neighbour_overlap(tables: Tables, groups: np.ndarray) -> np.ndarray:
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
        (n_atoms,) labels, such as structures: neighbours are sought among atoms of other labels.

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
    >>> found = neighbour_overlap([x, x + 1, y], np.arange(400))[0]
    >>> found[:2].round(3).tolist(), bool(found[2] < 0.05)
    ([1.0, 1.0], True)
    """
    return local_alignment(tables, groups, weighted=False)


def cknna(tables: Tables, groups: np.ndarray) -> np.ndarray:
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
    >>> cknna([x, 2 * x[:, ::-1], y], np.arange(400)).round(1)[0].tolist()
    [1.0, 1.0, 0.0]
    """
    return local_alignment(tables, groups, weighted=True)


def information_imbalance(tables: Tables, groups: np.ndarray) -> np.ndarray:
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
    >>> found = information_imbalance([x, x[:, :1]], np.arange(400))
    >>> both_to_one, one_to_both = found[[0, 1], [1, 0]]
    >>> bool(both_to_one < 0.1 < 0.2 < one_to_both)
    True
    """
    squares = [each for _, each in distances_to_others(tables, groups)]
    nearest = [each.argmin(axis=1)[:, None] for each in squares]
    n_others = np.isfinite(squares[0]).sum(axis=1)
    found = np.empty((len(tables), len(tables)))
    for s, t in np.ndindex(found.shape):
        ranks = 1 + (squares[t] < np.take_along_axis(squares[t], nearest[s], axis=1)).sum(axis=1)
        found[s, t] = 2 * (ranks / n_others).mean()
    return found


def standardize_tables(tables: Tables) -> list[np.ndarray]:
    """Centred tables of unit total variance."""
    if len(sizes := {len(x) for x in tables}) != 1 or min(sizes) < 4:
        words = " and ".join(map(str, sizes))
        raise InputError(f"Tables of {words} atoms: a measure needs equally many, 4 at least.")
    every = np.arange(len(tables[0]))
    return [standardize(x, every, f"table {i}") for i, x in enumerate(tables)]


def median_distance(x: np.ndarray) -> float:
    """Of the distances that are not zero, among at most some 1,000 atoms, evenly taken."""
    squares = euclidean_distances(x[:: max(1, len(x) // 1000)], squared=True)
    return float(np.sqrt(np.median(squares[squares > TIE])))


def distances_to_others(
    tables: Tables, groups: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each table, standardised, and (n_atoms, n_atoms) squared distances, infinite within groups.

    Ties are broken.
    """
    rng, within = np.random.default_rng(0), groups[:, None] == groups
    if within.all():
        raise InputError("Neighbours are sought among other groups (structures): two at least.")
    for x in standardize_tables(tables):
        squares = euclidean_distances(x, squared=True)
        squares += TIE * rng.random(squares.shape)
        squares[within] = np.inf
        yield x, squares


def normalize_products(products: np.ndarray) -> np.ndarray:
    """Scalar products of all pairs over the lengths of both."""
    lengths = np.sqrt(np.diag(products))
    return products / lengths / lengths[:, None]


def local_alignment(tables: Tables, groups: np.ndarray, *, weighted: bool) -> np.ndarray:
    """Cosines between who is whose neighbour, weighted by the linear kernel or not."""
    rows = []
    for x, squares in distances_to_others(tables, groups):
        least = np.isfinite(squares).sum(axis=1).min()  # no atom has fewer others
        k = min(max(1, len(x) // ATOMS_PER_NEIGHBOUR), least)
        near = np.argpartition(squares, k - 1, axis=1)[:, :k]
        row = np.zeros(squares.shape)
        np.put_along_axis(row, near, 1, axis=1)
        rows.append((row * (x @ x.T) if weighted else row).ravel())
    return normalize_products(np.array(rows) @ np.array(rows).T)


OF_NEIGHBOURS = {"overlap": neighbour_overlap, "cknna": cknna, "imbalance": information_imbalance}
