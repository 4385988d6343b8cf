"""Other lenses: how alike several tables of features of the same atoms are, without a fitted map.

Where a reconstruction error fits a map on training atoms and judges it on others, these measures
look at one set of atoms. Each takes the tables of all models, since most of the work is done once
for a table, and returns the value of every ordered pair: row = source, column = target. None
changes if the features of a table are shifted, turned (but for `pwcca`) or all multiplied by one
number. Those that look at neighbours are in `neighbours`. Kernels and neighbours take a square
matrix of the atoms for every table: 1 GB for 30 tables of 2,000 atoms.
"""

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import numpy as np
from sklearn.metrics.pairwise import rbf_kernel

from ..resources import InputError
from . import neighbours
from .neighbours import Tables, median_distance, normalize_products, standardize_tables
from .parallel import run_tasks
from .preprocess import varies


def cka(tables: Tables) -> np.ndarray:
    r"""Debiased linear centred kernel alignment, of the kernel :math:`K_{ij} = x_i \cdot x_j`.

    The cosine :math:`\mathrm{HSIC}(K, L) / \sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}`
    (Kornblith et al. 2019) with the unbiased estimator of Song et al. (2012), in which
    :math:`\tilde K` is K with a diagonal of zeros,

    .. math:: \frac{1}{n(n-3)} \left[ \mathrm{tr}\,\tilde K \tilde L
              + \frac{1^T \tilde K 1 \; 1^T \tilde L 1}{(n-1)(n-2)}
              - \frac{2}{n-2} 1^T \tilde K \tilde L 1 \right] .

    1: equal up to a rotation and a scale; 0, or a little below: unrelated, however wide the tables.
    It sees directions of large variance and passes over all others: what two models share in a
    direction with 1 % of the variance hardly counts, and one direction blown up decides alone.

    Parameters
    ----------
    tables
        (n_atoms, width) each, the same atoms in every one, widths may differ.

    Returns
    -------
    numpy.ndarray
        (n_tables, n_tables).

    Raises
    ------
    InputError
        Tables of different lengths, not finite, or constant; fewer than 4 atoms.

    Examples
    --------
    >>> x, y = np.random.default_rng(0).normal(size=(2, 400, 3))
    >>> cka([x, 2 * x[:, ::-1] + 1, y]).round(1)[0].tolist()
    [1.0, 1.0, 0.0]
    """
    return debiased_alignment([x @ x.T for x in standardize_tables(tables)])


def rbf_cka(tables: Tables) -> np.ndarray:
    r"""Debiased alignment of the kernel :math:`\exp(-|x_i - x_j|^2 / 2\sigma^2)`.

    As `cka`, with the median of the distances that are not zero as :math:`\sigma` (of at most
    1,000 atoms, evenly taken). It sees likeness in curved form and gives near atoms more weight
    than far ones, yet at the scale of the median distance, which mostly lies between elements.

    Parameters, result and errors are those of `cka`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 1))
    >>> linear, bent = (measure([x, x**2])[0, 1] for measure in (cka, rbf_cka))
    >>> bool(abs(linear) < 0.1 < bent)
    True
    """
    xs = [x / median_distance(x) for x in standardize_tables(tables)]  # in units of sigma
    return debiased_alignment([rbf_kernel(x, gamma=0.5) for x in xs])


def svcca(tables: Tables) -> np.ndarray:
    r"""Singular-vector canonical correlation (Raghu et al. 2017).

    The mean canonical correlation :math:`\bar\rho`, where :math:`\rho_i` are the singular values of
    :math:`U_A^T U_B` and the U orthonormal bases of the principal components that hold 99 % of a
    table's variance. 1: the smaller space lies in the larger one; 0: at right angles, which takes
    many more atoms than components, since with as many any two tables agree. Within the kept
    components it changes under no invertible linear map, and so it cannot see which are large.

    Parameters, result and errors are those of `cka`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 3))
    >>> svcca([x, x * [1, 2, 5]]).round(3)[0].tolist()
    [1.0, 1.0]
    """
    bases = []
    for x in standardize_tables(tables):
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        held = np.cumsum(s**2) / (s**2).sum()
        bases.append(u[:, : np.searchsorted(held, 0.99) + 1])
    return symmetric_matrix(bases, lambda a, b: np.linalg.svd(a.T @ b, compute_uv=False).mean())


def pwcca(tables: Tables) -> np.ndarray:
    r"""Projection-weighted canonical correlation (Morcos et al. 2018), weighted by the target.

    :math:`\sum_i w_i \rho_i / \sum_i w_i`, over all canonical correlations of both tables, with
    :math:`w_i = \sum_j |h_i \cdot y_j|` for the canonical variates :math:`h_i` of the target and
    its columns :math:`y_j`: directions in which the target hardly varies count little. 1: a linear
    map takes the source's to the target's; 0: no relation, as far as there are many more atoms than
    columns. If the source has fewer directions, those of the target that it lacks do not count; and
    the weights, unlike all else here, change as the target's features are turned.

    Parameters, result and errors are those of `cka`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 3))
    >>> pwcca([x, x @ [[1, 2], [0, 1], [0, 0]]]).round(3)[0].tolist()
    [1.0, 1.0]
    """
    spaces = []
    for x in standardize_tables(tables):
        u, s, vh = np.linalg.svd(x, full_matrices=False)
        held = s > 1e-6 * s[0]  # the rest is the rounding of single precision
        spaces.append((u[:, held], s[held, None] * vh[held]))
    found = np.empty((len(spaces), len(spaces)))
    for (i, (a, x)), (j, (b, y)) in combinations_with_replacement(enumerate(spaces), 2):
        of_a, correlations, of_b = np.linalg.svd(a.T @ b, full_matrices=False)
        found[j, i] = np.average(correlations, weights=np.abs(of_a.T @ x).sum(axis=1))
        found[i, j] = np.average(correlations, weights=np.abs(of_b @ y).sum(axis=1))
    return found


def procrustes(tables: Tables) -> np.ndarray:
    r"""Orthogonal Procrustes distance, over its largest value.

    .. math:: \frac{1}{\sqrt 2} \min_{Q^T Q = 1} \|X - Y Q\|_F = \sqrt{1 - \|X^T Y\|_*}

    for centred features of unit Frobenius norm, the narrower table padded with zeros. 0: equal up
    to a rotation and a scale; 1: unrelated, in the limit of many more atoms than columns. A metric
    in the strict sense. It sees directions of large variance, as `cka` does, yet less so: singular
    values enter once, not squared.

    Parameters, result and errors are those of `cka`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 3))
    >>> procrustes([x, -2 * x, x[:, :1]]).round(2)[0].tolist()
    [0.0, 0.0, 0.65]
    """
    units = [x / np.linalg.norm(x) for x in standardize_tables(tables)]
    overlaps = symmetric_matrix(units, lambda a, b: np.linalg.norm(a.T @ b, "nuc"))
    return np.sqrt(np.clip(1 - overlaps, 0, None))


OF_TABLES = {"cka": cka, "cka-rbf": rbf_cka, "svcca": svcca, "pwcca": pwcca}
OF_TABLES |= {"procrustes": procrustes}


def similarity_matrix(metric: str | Callable, tables: Tables, groups: np.ndarray) -> np.ndarray:
    """Values of a similarity, a distance or a measure of one's own for all pairs of tables.

    Parameters
    ----------
    metric
        Its name, or a function of the standardised tables of source and target.
    tables
        (n_atoms, width) each, the same atoms in every one.
    groups
        (n_atoms,) labels, such as structures: measures that look at neighbours seek them among
        atoms of other groups.

    Returns
    -------
    numpy.ndarray
        (n_tables, n_tables): row = source, column = target.

    Raises
    ------
    InputError
        Those of the measure; one's own fails, or returns what is no number.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> similarity_matrix("procrustes", [x, 3 * x], np.arange(40)).round(6).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    if metric in OF_TABLES:
        return OF_TABLES[metric](tables)
    if metric in neighbours.OF_NEIGHBOURS:
        return neighbours.OF_NEIGHBOURS[metric](tables, groups)
    xs, name = standardize_tables(tables), metric.__name__
    try:
        found = np.array([[metric(source, target) for target in xs] for source in xs], dtype=float)
    except Exception as error:  # whatever one's own code raises
        why = f"fails on two tables with {type(error).__name__} ({error})"
        raise InputError(f"{name}: {why}.") from error
    if found.shape != (len(xs), len(xs)) or not np.isfinite(found).all():
        raise InputError(f"{name}: a measure of two tables must return one finite number.")
    return found


def half_samples(
    metric: str | Callable, tables: Tables, groups: np.ndarray, n_halves: int, n_jobs: int = 1
) -> np.ndarray:
    """(1 + n_halves, n_tables, n_tables) values on all atoms, and on random halves of the groups.

    A bootstrap would draw an atom twice, and make it its own neighbour. Halves are drawn without
    replacement (delete-half jackknife): to first order their values spread about that of the whole
    as much as that of the whole does over new samples, 1/(n/2) - 1/n = 1/n. A half on which
    nothing can be measured, as where one table does not vary, is left out; of fewer than four
    groups there are none.
    """
    labels, rng = np.unique(groups), np.random.default_rng(0)
    tasks = [(metric, tables, groups)]
    for _ in range(n_halves if len(labels) >= 4 else 0):
        rows = np.isin(groups, rng.choice(labels, len(labels) // 2, replace=False))
        half = [x[rows] for x in tables]
        if rows.sum() >= 4 and all(map(varies, half)):
            tasks.append((metric, half, groups[rows]))
    return np.array(run_tasks(similarity_matrix, tasks, n_jobs))


def symmetric_matrix(items: Tables, value: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """(n, n) values of all pairs, where the order of the two makes no difference."""
    matrix = np.empty((len(items), len(items)))
    for (i, a), (j, b) in combinations_with_replacement(enumerate(items), 2):
        matrix[i, j] = matrix[j, i] = value(a, b)
    return matrix


def debiased_alignment(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """Cosines of the unbiased HSIC between kernels, (n_atoms, n_atoms) each."""
    n, kernels = len(kernels[0]), np.array(kernels)
    kernels[:, range(n), range(n)] = 0
    flat, sums = kernels.reshape(len(kernels), -1), kernels.sum(axis=2)
    total = sums.sum(axis=1)
    hsic = np.outer(total, total) / ((n - 1) * (n - 2)) - 2 / (n - 2) * sums @ sums.T
    return normalize_products(flat @ flat.T + hsic)
