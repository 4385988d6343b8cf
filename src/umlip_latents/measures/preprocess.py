"""What features go through before they are compared: checks, a common scale, element means."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..resources import InputError

MIN_ATOMS_PER_ELEMENT = 10  # training atoms of an element, to know its mean by
MIN_CARRIERS = 12  # structures that share the variance; see `warn_of_few`


def check_split(train: np.ndarray, test: np.ndarray) -> None:
    """Raise `InputError` for too few training or test atoms."""
    if len(train) < 4 or len(test) < 1:
        raise InputError(f"{len(train)} training and {len(test)} test atoms are too few.")


def is_constant(scale: float, largest_mean: float) -> bool:
    """Whether the spread of features is nothing but the rounding of their mean."""
    return scale <= 1e-12 * (1 + largest_mean)


def varies(features: np.ndarray) -> bool:
    """Whether features vary over the atoms, by more than rounding.

    Examples
    --------
    >>> varies(np.array([[1.0], [2.0]])), varies(np.ones((2, 1)))
    (True, False)
    """
    x = np.asarray(features, dtype=np.float64)
    return not is_constant(np.sqrt(x.var(axis=0).sum()), np.abs(x.mean(axis=0)).max())


def standardize(
    features: np.ndarray,
    train: np.ndarray | slice,
    name: str = "features",
    weights: np.ndarray | None = None,
) -> np.ndarray:
    r"""Centre features and scale them to unit total variance on the training atoms.

    .. math:: \tilde x_i = (x_i - \mu) \Big/ \sqrt{\textstyle\sum_j \mathrm{var}(x_{\cdot j})}

    Parameters
    ----------
    features
        (n_atoms, width).
    train
        Indices of the training atoms, which set mean and variance, or a slice.
    name
        Of the features, for errors.
    weights
        (n_rows,) where the rows are not atoms but those of a factor that stands in for them: its
        column that stands in for a column of ones.

    Returns
    -------
    numpy.ndarray
        (n_atoms, width), float64.

    Raises
    ------
    InputError
        The features are no table of finite numbers, or do not vary over the training atoms.

    Examples
    --------
    >>> standardize(np.array([[1.0], [3.0], [7.0]]), np.array([0, 1])).tolist()
    [[-1.0], [1.0], [5.0]]
    """
    x = np.array(features, dtype=np.float64)  # a copy
    if x.ndim != 2 or not np.isfinite(x).all():
        raise InputError(f"{name}: features must be a table (n_atoms, width) of finite numbers.")
    ones = np.ones(len(x)) if weights is None else weights
    count, means = ones[train] @ ones[train], []
    for _ in range(2):  # rounding leaves something of a mean far above the spread
        means.append(ones[train] @ x[train] / count)
        x -= means[-1] if weights is None else np.outer(ones, means[-1])
    scale = np.linalg.norm(x[train]) / count**0.5
    if is_constant(scale, np.abs(means[0]).max()):
        raise InputError(f"{name}: features do not vary over the training atoms.")
    x /= scale
    return x


def subtract_element_means(
    features: np.ndarray, numbers: np.ndarray, train: np.ndarray
) -> np.ndarray:
    """Take the mean over the training atoms of the same element off every atom.

    What is left is how atoms of one element differ, the part that an element baseline cannot see.
    Atoms of an element without training atoms have no such mean and become zero: leave them out of
    the test with `with_known_element`.

    Parameters
    ----------
    features
        (n_atoms, width).
    numbers
        (n_atoms,) atomic numbers.
    train
        Indices of the training atoms.

    Returns
    -------
    numpy.ndarray
        (n_atoms, width), float64.

    Examples
    --------
    >>> x, numbers = np.array([[1.0], [3.0], [5.0]]), np.array([8, 8, 8])
    >>> subtract_element_means(x, numbers, np.array([0, 1])).tolist()
    [[-1.0], [1.0], [3.0]]
    """
    x = np.asarray(features, dtype=np.float64)
    means = pd.DataFrame(x[train]).groupby(numbers[train]).mean().reindex(numbers).to_numpy()
    return np.where(np.isnan(means), 0.0, x - means)


def with_known_element(numbers: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The test atoms whose element has at least `MIN_ATOMS_PER_ELEMENT` training atoms.

    Examples
    --------
    >>> numbers = np.array([8] * 12 + [14] * 2)
    >>> with_known_element(numbers, np.arange(11), np.array([11, 12, 13])).tolist()
    [11]
    """
    counts = np.bincount(numbers[train], minlength=numbers.max() + 1)
    return test[counts[numbers[test]] >= MIN_ATOMS_PER_ELEMENT]


def variance_shares(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n_groups,) shares of the total variance that the rows of each group carry, largest first.

    Examples
    --------
    >>> variance_shares(np.array([[-1.0], [1.0], [-1.0], [1.0]]), np.array([5, 5, 5, 8])).tolist()
    [0.75, 0.25]
    """
    x = np.asarray(features, dtype=np.float64)
    squares = np.square(x - x.mean(axis=0)).sum(axis=1)
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], squares)
    return np.sort(sums)[::-1] / sums.sum()


def warn_of_few(tables: Mapping[str, np.ndarray], structure: np.ndarray) -> dict[str, str]:
    r"""Why an error misleads where few structures carry the variance, by name of the features.

    With the shares :math:`s_i` of the structures, as many as :math:`m = 1 / \sum_i s_i^2` carry
    the variance. Of m equal ones a quarter, drawn at random, holds a quarter of it to within
    :math:`\sqrt{3 / m}`: for fewer than 12 the spread that an error is measured in changes by more
    than half from split to split. Where there are fewer structures, that alone is said, as
    ``"structures"``. An atom's share is part of its structure's, so that few atoms are found, too.

    Parameters
    ----------
    tables
        Name to (n_atoms, width).
    structure
        (n_atoms,) the structure of each atom.

    Examples
    --------
    >>> x = np.zeros((60, 1))
    >>> x[:4] = [[-9.0], [9.0], [-9.0], [9.0]]
    >>> list(warn_of_few({"far": x, "even": np.arange(60.0)[:, None] % 2}, np.arange(60)))
    ['far']
    """
    n = len(np.unique(structure))
    if n < MIN_CARRIERS:
        return {"structures": f"structures: only {n}, so which are held out decides the numbers."}
    found = {}
    for name, x in tables.items():
        shares = variance_shares(x, structure)
        m = round(1 / np.square(shares).sum())
        if m < MIN_CARRIERS:
            words = f"{shares[:m].sum():.2f} of its variance lies in {m} of {n} structures"
            found[name] = f"{name}: {words}, errors onto it tell of little else."
    return found
