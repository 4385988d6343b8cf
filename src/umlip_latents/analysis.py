"""Simple properties of latent features: element share, effective dimension, invariance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from .extraction import extract_features
from .models.base import LatentModel


def element_share(features: np.ndarray, numbers: np.ndarray) -> float:
    r"""Share of the total variance that the mean of each element explains.

    .. math:: 1 - \sum_i \|\phi_i - \bar\phi_{Z_i}\|^2 \big/ \sum_i \|\phi_i - \bar\phi\|^2

    Parameters
    ----------
    features
        (n_atoms, d).
    numbers
        (n_atoms,) atomic numbers.
    """
    x = np.asarray(features, dtype=np.float64)
    _, element = np.unique(numbers, return_inverse=True)
    counts = np.bincount(element)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, element, x)
    means /= counts[:, None]
    return float(1 - ((x - means[element]) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def effective_dimension(features: np.ndarray, share: float) -> int:
    """Number of principal components that hold `share` of the total variance."""
    x = np.asarray(features, dtype=np.float64)
    variances = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1


def invariance_deviations(
    model: LatentModel, structures: Sequence[Atoms], *, seed: int = 0
) -> dict[str, float]:
    """Largest deviation of the backbone features under operations that must not change them.

    Parameters
    ----------
    model
        The model to test.
    structures
        Periodic structures that the model accepts.
    seed
        Of the random rotation, shift and order.

    Returns
    -------
    dict
        For ``rotation``, ``translation``, ``permutation`` and ``2x2x2 supercell`` the largest
        absolute deviation over the largest absolute feature.
    """
    rng = np.random.default_rng(seed)
    reference = extract_features(structures, model, progress=False)
    offsets = np.cumsum(reference.n_atoms) - reference.n_atoms
    orders = [rng.permutation(len(a)) for a in structures]
    changed = {
        "rotation": [rotated(a, rng) for a in structures],
        "translation": [translated(a, rng) for a in structures],
        "permutation": [a[order] for a, order in zip(structures, orders, strict=True)],
        "2x2x2 supercell": [a.repeat(2) for a in structures],
    }
    rows = {
        "rotation": np.arange(len(reference.features)),
        "translation": np.arange(len(reference.features)),
        "permutation": np.concatenate(
            [o + start for o, start in zip(orders, offsets, strict=True)]
        ),
        "2x2x2 supercell": np.concatenate(
            [
                np.tile(np.arange(n) + start, 8)
                for n, start in zip(reference.n_atoms, offsets, strict=True)
            ]
        ),
    }
    largest = np.abs(reference.features).max()
    return {
        name: float(
            np.abs(
                extract_features(versions, model, progress=False).features
                - reference.features[rows[name]]
            ).max()
            / largest
        )
        for name, versions in changed.items()
    }


def rotated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure and its cell under a random rotation."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ q.T)
    turned.positions = atoms.positions @ q.T
    return turned


def translated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure shifted by a random vector, and wrapped back where it is periodic."""
    shifted = atoms.copy()
    shifted.positions += rng.uniform(-5, 5, 3)
    if shifted.pbc.any():
        shifted.wrap()
    return shifted
