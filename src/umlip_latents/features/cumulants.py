"""From atom features to structure features: cumulants, the maximum, means by element."""

from dataclasses import replace
from math import comb

import numpy as np
import pandas as pd

from ..resources import InputError
from .table import Features

MAX_ORDER = 8


def cumulant_features(features: np.ndarray, n_atoms: np.ndarray, order: int) -> np.ndarray:
    r"""Compress the atom features of each structure to its first cumulants.

    Over the atoms of a structure, every latent dimension has the mean
    :math:`\kappa_1 = \mu` and, with the central moments :math:`m_k = \langle (x-\mu)^k \rangle`,
    the cumulants

    .. math::
        \kappa_k = m_k - \sum_{j=2}^{k-2} \binom{k-1}{j-1} \kappa_j \, m_{k-j} .

    The k-th one enters as its signed root :math:`\mathrm{sgn}(\kappa_k) |\kappa_k|^{1/k}`, so that
    all features have the unit of the latent one (arXiv:2512.05717).

    Parameters
    ----------
    features
        (n_atoms_total, d), the atoms of one structure after the other.
    n_atoms
        (n_structures,), atoms of each structure.
    order
        Number of cumulants, 1 (the mean alone) to 8.

    Returns
    -------
    numpy.ndarray
        (n_structures, order * d), float64, cumulant by cumulant. For one atom all but the first
        are zero, and so are cumulants within the rounding of the features' precision.

    Raises
    ------
    InputError
        Order out of range, shapes that do not match, or an empty structure.

    Examples
    --------
    >>> cumulant_features(np.array([[1.0], [3.0], [5.0]]), np.array([2, 1]), 2).tolist()
    [[2.0, 1.0], [5.0, 0.0]]
    """
    if order not in range(1, MAX_ORDER + 1):
        raise InputError(f"order {order}: cumulants go from 1 to {MAX_ORDER}.")
    starts, count = first_atoms(features, n_atoms), np.asarray(n_atoms)[:, None]
    x = np.asarray(features, dtype=np.float64)
    precision = np.finfo(np.result_type(features, np.float16)).eps
    mean = np.add.reduceat(x, starts, axis=0) / count
    centred = x - np.repeat(mean, n_atoms, axis=0)
    # A cumulant that vanishes by symmetry is left with the rounding of the features, which a high
    # root would blow up (1e-7 to 0.1 at k = 7): what is within rounding is zero.
    noise = precision * np.maximum.reduceat(np.abs(x), starts, axis=0)
    moments, cumulants, roots = {}, {}, [mean]  # the first central moment is zero by construction
    power = centred
    for k in range(2, order + 1):
        slope = np.add.reduceat(np.abs(power), starts, axis=0) / count
        power = power * centred
        moments[k] = np.add.reduceat(power, starts, axis=0) / count
        lower = (comb(k - 1, j - 1) * cumulants[j] * moments[k - j] for j in range(2, k - 1))
        cumulants[k] = moments[k] - sum(lower)
        kappa = np.where(np.abs(cumulants[k]) > 4 * k * noise * slope, cumulants[k], 0.0)
        roots.append(np.sign(kappa) * np.abs(kappa) ** (1 / k))
    return np.concatenate(roots, axis=1)


def first_atoms(features: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
    """(n_structures,) row of each structure's first atom; raises `InputError` if there is none.

    Examples
    --------
    >>> first_atoms(np.zeros((3, 1)), np.array([2, 1])).tolist()
    [0, 2]
    """
    n_atoms = np.asarray(n_atoms)
    fits = np.ndim(features) == 2 and n_atoms.ndim == 1 and n_atoms.sum() == len(features)
    if not fits or (n_atoms < 1).any():
        raise InputError("n_atoms must be positive, and add up to the rows of a table of features.")
    return np.cumsum(n_atoms) - n_atoms


def max_features(features: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
    """The largest value of each latent dimension over the atoms of a structure.

    Parameters
    ----------
    features, n_atoms
        As in `cumulant_features`.

    Returns
    -------
    numpy.ndarray
        (n_structures, d), float64.

    Raises
    ------
    InputError
        As `cumulant_features`.

    Examples
    --------
    >>> max_features(np.array([[1.0], [3.0], [5.0]]), np.array([2, 1])).tolist()
    [[3.0], [5.0]]
    """
    return np.maximum.reduceat(np.asarray(features, float), first_atoms(features, n_atoms), axis=0)


def element_features(
    features: np.ndarray, n_atoms: np.ndarray, numbers: np.ndarray, elements: np.ndarray
) -> np.ndarray:
    """The mean of the latent features over the atoms of each element of a structure.

    Parameters
    ----------
    features, n_atoms
        As in `cumulant_features`.
    numbers
        (n_atoms_total,) atomic numbers.
    elements
        (n_elements,) atomic numbers whose means are wanted; atoms of others do not count.

    Returns
    -------
    numpy.ndarray
        (n_structures, n_elements * d), float64, element by element; zeros where a structure has no
        atom of the element.

    Raises
    ------
    InputError
        As `cumulant_features`.

    Examples
    --------
    >>> x, n_atoms, numbers = np.array([[1.0], [3.0], [5.0]]), np.array([2, 1]), np.array([1, 1, 8])
    >>> element_features(x, n_atoms, numbers, np.array([1, 8])).tolist()
    [[2.0, 0.0], [0.0, 5.0]]
    """
    structure = np.repeat(np.arange(len(first_atoms(features, n_atoms))), n_atoms)
    means = pd.DataFrame(features, dtype=float).groupby([structure, np.asarray(numbers)]).mean()
    every = pd.MultiIndex.from_product([range(len(n_atoms)), elements])
    return means.reindex(every, fill_value=0).to_numpy().reshape(len(n_atoms), -1)


def structure_features(features: Features, order: int) -> Features:
    """The first cumulants of each structure, as features that `compare` takes: a row a structure.

    Parameters
    ----------
    features
        Of the atoms.
    order
        Number of cumulants, as in `cumulant_features`.

    Returns
    -------
    Features
        One "atom" per structure, of no element.

    Examples
    --------
    >>> atoms = Features(np.array([[1.0], [3.0]]), np.array([2]), np.array([6, 8]), np.array([0]))
    >>> structure_features(atoms, 2).features.tolist()
    [[2.0, 1.0]]
    """
    x, ones = features.features, np.ones_like(features.n_atoms)
    cumulants = cumulant_features(x, features.n_atoms, order)
    return replace(features, features=cumulants, n_atoms=ones, numbers=0 * ones)
