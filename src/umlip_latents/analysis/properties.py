"""Properties of latent features: element share, dimension, far atoms, invariance."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..features.extraction import extract_features
from ..measures.preprocess import subtract_element_means, variance_shares
from ..models.base import LatentModel
from ..resources import InputError


def element_share(features: np.ndarray, numbers: np.ndarray) -> float:
    r"""Share of the total variance that the mean of each element explains.

    .. math:: 1 - \sum_i \|\phi_i - \bar\phi_{Z_i}\|^2 \big/ \sum_i \|\phi_i - \bar\phi\|^2

    Parameters
    ----------
    features
        (n_atoms, d).
    numbers
        (n_atoms,) atomic numbers.

    Examples
    --------
    >>> round(element_share([[0.0], [2.0], [7.0], [9.0]], [1, 1, 8, 8]), 3)
    0.925
    """
    x = np.asarray(features, dtype=np.float64)
    within = subtract_element_means(x, np.asarray(numbers), np.arange(len(x)))
    return float(1 - np.square(within).sum() / np.square(x - x.mean(axis=0)).sum())


def effective_dimension(features: np.ndarray) -> float:
    r"""Participation ratio of the principal variances, the number of directions that matter.

    .. math:: \Big(\sum_i \lambda_i\Big)^2 \Big/ \sum_i \lambda_i^2

    Parameters
    ----------
    features
        (n_atoms, width).

    Examples
    --------
    >>> round(effective_dimension([[1, 0], [-1, 0], [0, 1], [0, -1]]), 3)
    2.0
    """
    x = np.asarray(features, dtype=np.float64)
    covariance = np.cov(x.T, bias=True)
    return float(np.trace(covariance) ** 2 / np.square(covariance).sum())


def extreme_share(features: np.ndarray, share: float = 0.01) -> float:
    """Share of the variance that the atoms farthest from the mean carry.

    Where it is large, a reconstruction error to these features tells of those atoms alone.

    Parameters
    ----------
    features
        (n_atoms, width).
    share
        Of the atoms that count as far; at least one does.

    Examples
    --------
    >>> extreme_share(np.array([[-1.0], [1.0], [-1.0], [1.0]]), 0.5)
    0.5
    >>> bool(extreme_share(np.r_[np.zeros((99, 1)), [[1.0]]]) > 0.9)
    True
    """
    shares = variance_shares(features, np.arange(len(features)))
    return float(shares[: max(1, round(share * len(shares)))].sum())


def above_elements(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """What a value for each element, fitted by least squares, leaves of a quantity per atom.

    Parameters
    ----------
    values
        (n_structures,) of the quantity, such as the energy per atom.
    shares
        (n_structures, n_elements) share of each element: the mean of the bare element's features.

    Returns
    -------
    numpy.ndarray
        (n_structures,).

    Raises
    ------
    InputError
        The fit is not determined, so that it leaves next to nothing or says nothing of an element:
        fewer than two structures to an element, or elements that never come apart.

    Examples
    --------
    >>> shares = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]])
    >>> above_elements(np.array([1, 2, 1.5, 1.7]), shares).round(2).tolist()
    [-0.05, -0.05, -0.05, 0.15]
    """
    present = shares[:, shares.any(axis=0)]
    n, n_elements = present.shape
    if n < 2 * n_elements or np.linalg.matrix_rank(present) < n_elements:
        words = f"{n} structures do not determine a value for each of {n_elements} elements"
        raise InputError(f"{words}, so nothing can be measured above them.")
    return values - present @ np.linalg.lstsq(present, values, rcond=None)[0]


def invariance_deviations(model: LatentModel, structures: Sequence[Atoms]) -> dict[str, float]:
    """Largest deviation of the backbone features under operations that must not change them.

    Rotation, shift and order are random, the same in every call.

    Parameters
    ----------
    model
        The model to test.
    structures
        Structures that the model accepts; they are repeated where they are periodic.

    Returns
    -------
    dict
        For ``rotation``, ``translation``, ``permutation`` and ``2x2x2 supercell`` the largest
        absolute deviation over the largest absolute feature.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from umlip_latents import load_model
    >>> max(invariance_deviations(load_model("element"), [bulk("Cu")]).values())
    0.0
    """
    marked, ends = [atoms.copy() for atoms in structures], np.cumsum([*map(len, structures)])
    for atoms, end in zip(marked, ends, strict=True):  # the row of an atom's features follows it
        atoms.set_array("row", np.arange(end - len(atoms), end))
    rng, deviations = np.random.default_rng(0), {}
    copies = [equivalent_copies(atoms, rng) for atoms in marked]
    reference = extract_features(structures, model, progress=False).features
    for name in copies[0]:
        some = [each[name] for each in copies]
        expected = reference[np.concatenate([atoms.arrays["row"] for atoms in some])]
        found = extract_features(some, model, progress=False).features
        deviations[name] = float(np.abs(found - expected).max() / np.abs(reference).max())
    return deviations


def equivalent_copies(atoms: Atoms, rng: np.random.Generator) -> dict[str, Atoms]:
    """A structure turned, shifted, renumbered and repeated, by the name of the operation."""
    turned, shifted = atoms.copy(), atoms.copy()
    turned.rotate(rng.uniform(30, 330), rng.normal(size=3), rotate_cell=True)
    shifted.translate(rng.uniform(-5, 5, 3))
    shifted.wrap()
    return {
        "rotation": turned,
        "translation": shifted,
        "permutation": atoms[rng.permutation(len(atoms))],
        "2x2x2 supercell": atoms.repeat(1 + atoms.pbc),
    }
