"""Properties of latent features: element share, invariance, retention."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from ase import Atoms

from ..features.extraction import extract_features
from ..measures.preprocess import subtract_element_means
from ..models.base import LatentModel


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
    x = np.asarray(features, dtype=np.float64)
    distances = np.sort(np.square(x - x.mean(axis=0)).sum(axis=1))
    return float(distances[-max(1, round(share * len(x))) :].sum() / distances.sum())


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
    rng, n = np.random.default_rng(0), 0
    marked = [atoms.copy() for atoms in structures]
    for atoms in marked:  # the row of its features follows an atom through all changes
        atoms.set_array("row", np.arange(n, n + len(atoms)))
        n += len(atoms)
    changed = {
        "rotation": [rotated(atoms, rng) for atoms in marked],
        "translation": [translated(atoms, rng) for atoms in marked],
        "permutation": [atoms[rng.permutation(len(atoms))] for atoms in marked],
        "2x2x2 supercell": [atoms.repeat(1 + atoms.pbc) for atoms in marked],
    }
    # all at once, since a model in an environment of its own takes long to start
    together = [*structures, *chain(*changed.values())]
    reference, found = np.split(extract_features(together, model, progress=False).features, [n])
    deviations = {}
    for name, copies in changed.items():
        expected = reference[np.concatenate([atoms.arrays["row"] for atoms in copies])]
        own, found = np.split(found, [len(expected)])
        deviations[name] = float(np.abs(own - expected).max() / np.abs(reference).max())
    return deviations


def rotated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure and its cell under a random rotation."""
    turned = atoms.copy()
    turned.rotate(rng.uniform(30, 330), rng.normal(size=3), rotate_cell=True)
    return turned


def translated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure shifted by a random vector, and wrapped back where it is periodic."""
    shifted = atoms.copy()
    shifted.translate(rng.uniform(-5, 5, 3))
    shifted.wrap()
    return shifted
