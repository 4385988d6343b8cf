r"""Which structures to keep: near-duplicates, what to label next, distances of two data sets.

A structure is its first two cumulants, centred and scaled to unit total variance over all
structures, unchanged when it is turned, shifted, renumbered or repeated as a supercell.
"""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform
from skmatter.sample_selection import FPS

from ..features.cumulants import structure_features
from ..features.table import Features
from ..measures.preprocess import standardize
from ..resources import InputError
from .novelty import check_same_model

CUMULANT_ORDER = 2


def near_duplicates(
    features: Features, other: Features | None = None, *, tolerance: float = 0.01
) -> pd.DataFrame:
    """Pairs of structures that a model can hardly tell apart.

    Two structures are near-duplicates if their first two cumulants, scaled to unit total variance
    over all structures, are no farther apart than the tolerance. Supercells and turned, shifted or
    renumbered copies are.

    Parameters
    ----------
    features
        Of the structures.
    other
        Find pairs of one structure each of `features` and of these, not pairs within `features`.
    tolerance
        Largest distance, by default far above the rounding of single precision, some 1e-5; the
        root mean square over all pairs is 1.4.

    Returns
    -------
    pandas.DataFrame
        ``first``, ``second``, the input indices, and ``distance``.

    Raises
    ------
    InputError
        Features of different models, layers or widths, or structures that are all alike.

    Examples
    --------
    >>> x = np.array([[0.0], [2.0], [0.0]])
    >>> cells = Features(x, np.ones(3, int), np.ones(3), np.arange(3))
    >>> near_duplicates(cells)[["first", "second"]].values.tolist()
    [[0, 2]]
    """
    sets = [features] if other is None else [features, other]
    x = scaled_cumulants(*sets)
    pairs = cKDTree(x).query_pairs(tolerance, output_type="ndarray")
    if other is not None:
        pairs = pairs[np.diff(pairs >= len(features.kept), axis=1)[:, 0]]
    found = pd.DataFrame(np.concatenate([f.kept for f in sets])[pairs], columns=["first", "second"])
    return found.assign(distance=np.linalg.norm(np.subtract(*x[pairs.T]), axis=1))


def farthest_points(features: Features, n: int) -> pd.DataFrame:
    """Structures to label: farthest-point sampling on the first two cumulants.

    The first one is the nearest to the mean, each further one the farthest from those chosen so
    far (`skmatter.sample_selection.FPS`).

    Parameters
    ----------
    features
        Of the structures to choose from.
    n
        How many.

    Returns
    -------
    pandas.DataFrame
        A row per choice, in order: ``structure``, its input index, and ``radius``, the largest
        distance of any structure from the nearest one chosen so far, in units of the spread.

    Raises
    ------
    InputError
        More are wanted than there are, or they do not vary.

    Examples
    --------
    >>> cells = Features(np.array([[1.0], [2.0], [5.0]]), np.ones(3, int), np.ones(3), np.arange(3))
    >>> farthest_points(cells, 2)["structure"].tolist()
    [1, 2]
    """
    if not 0 < n <= len(features.kept):
        raise InputError(f"n {n}: must lie between 1 and the {len(features.kept)} structures.")
    x = scaled_cumulants(features)
    found = FPS(n_to_select=n, initialize=int(np.square(x).sum(axis=1).argmin())).fit(x)
    squared = np.append(found.get_select_distance()[1:], found.get_distance().max())
    chosen = features.kept[found.selected_idx_]
    return pd.DataFrame({"structure": chosen, "radius": np.sqrt(squared.clip(0))})


def maximum_mean_discrepancy(x: np.ndarray, first: np.ndarray) -> np.ndarray:
    r"""Squared maximum mean discrepancy between two parts of a sample, unbiased.

    .. math:: \langle k(x, x') \rangle + \langle k(y, y') \rangle - 2 \langle k(x, y) \rangle

    over pairs of different points, with :math:`k = \exp(-r^2 / 2 \sigma^2)` and
    :math:`\sigma` the median distance of all points (Gretton et al., J. Mach. Learn. Res. 13, 723,
    2012). 0 on average for two samples of one distribution, hence at times below it.

    Parameters
    ----------
    x
        (n, d).
    first
        (n_divisions, n), true for the points of the first part, two at least in either.

    Returns
    -------
    numpy.ndarray
        (n_divisions,).

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [9.0], [9.1]])
    >>> maximum_mean_discrepancy(x, [[True, True, False, False]]).round(1).tolist()
    [0.8]
    """
    r = pdist(x)
    kernel = squareform(np.exp(-np.square(r / np.median(r)) / 2))  # zero on the diagonal
    a = np.asarray(first, dtype=float)
    b, n = 1 - a, a.sum(axis=1)
    m = len(x) - n
    xx, xy, yy = (((p @ kernel) * q).sum(axis=1) for p, q in ((a, a), (a, b), (b, b)))
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def scaled_cumulants(*sets: Features) -> np.ndarray:
    """A row per structure of the sets, one after the other, scaled on all of them.

    Examples
    --------
    >>> lists = np.array([2, 2]), np.ones(4, int), np.array([0, 1])
    >>> scaled_cumulants(Features(np.arange(4.0)[:, None], *lists)).shape
    (2, 2)
    """
    check_same_model(*sets)
    x = np.vstack([structure_features(f, CUMULANT_ORDER).features for f in sets])
    return standardize(x, np.arange(len(x)), sets[0].model)
