"""Baselines that were never trained: the bare element, and histograms of an atom's neighbours."""

from types import MappingProxyType

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from .base import LAYERS, identity

N_ELEMENTS = 118


class ElementModel:
    """One-hot element identity, no geometry at all, for both layers."""

    name = "element"
    fingerprint = identity({"one-hot": N_ELEMENTS})
    widths = MappingProxyType({"backbone": N_ELEMENTS, "last": N_ELEMENTS})

    def prepare(self, atoms: Atoms) -> np.ndarray:
        """The atomic numbers."""
        return atoms.numbers

    def size(self, graph: np.ndarray) -> int:
        """One per atom."""
        return len(graph)

    def features(self, graphs: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Rows of the identity matrix."""
        onehot = np.eye(N_ELEMENTS, dtype=np.float32)[np.concatenate(graphs) - 1]
        return {"backbone": onehot, "last": onehot}


class SymmetryFunctions:
    """The element of an atom, and histograms of the distances to its neighbours, for both layers.

    Weighted atom-centred symmetry functions (Gastegger et al., J. Chem. Phys. 148, 241709 (2018)):
    each neighbour counts once, by its atomic number, and by its covalent radius; 16 shells up to
    6 Å, no angles.
    """

    name = "symmetry-functions"
    cutoff, centres, width = 6.0, np.linspace(0.75, 5.75, 16), 0.35  # Å
    fingerprint = identity({"cutoff": 6.0, "shells": [0.75, 5.75, 16], "width": 0.35})
    widths = MappingProxyType(dict.fromkeys(LAYERS, N_ELEMENTS + 3 * 16))

    def prepare(self, atoms: Atoms) -> tuple[np.ndarray, ...]:
        """Atomic numbers, and the pairs within the cutoff: centre, other's number, distance."""
        centre, neighbour, distance = neighbor_list("ijd", atoms, self.cutoff)
        return atoms.numbers, centre, atoms.numbers[neighbour], distance

    def size(self, graph: tuple[np.ndarray, ...]) -> int:
        """Pairs within the cutoff."""
        return len(graph[3])

    def features(self, graphs: list[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
        """Element and histograms of every atom."""
        rows = np.concatenate([self.describe(*graph) for graph in graphs], dtype=np.float32)
        return dict.fromkeys(LAYERS, rows)

    def describe(
        self, numbers: np.ndarray, centre: np.ndarray, others: np.ndarray, distance: np.ndarray
    ) -> np.ndarray:
        """(n_atoms, 166) of one structure."""
        fade = 0.5 + 0.5 * np.cos(np.pi * distance / self.cutoff)[:, None]
        shells = fade * np.exp(-(((distance[:, None] - self.centres) / self.width) ** 2) / 2)
        weights = np.ones(len(others)), others / N_ELEMENTS, covalent_radii[others]
        sums = np.zeros((len(numbers), 3 * 16))
        np.add.at(sums, centre, np.hstack([w[:, None] * shells for w in weights]))
        return np.hstack([np.eye(N_ELEMENTS)[numbers - 1], sums])


def load(name: str, entry: dict) -> ElementModel | SymmetryFunctions:
    """The one of that name."""
    return ElementModel() if name == ElementModel.name else SymmetryFunctions()
