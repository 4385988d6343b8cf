"""Baselines that were never trained: the bare element, and histograms of an atom's neighbours."""

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
    widths = dict.fromkeys(LAYERS, N_ELEMENTS)

    def prepare(self, atoms: Atoms) -> Atoms:
        """The structure itself."""
        return atoms

    def size(self, graph: Atoms) -> int:
        """One per atom."""
        return len(graph)

    def features(self, graphs: list[Atoms]) -> dict[str, np.ndarray]:
        """Rows of all structures, each described alone."""
        rows = np.concatenate([self.describe(atoms) for atoms in graphs], dtype=np.float32)
        return dict.fromkeys(LAYERS, rows)

    def describe(self, atoms: Atoms) -> np.ndarray:
        """(n_atoms, 118) rows of the identity matrix."""
        return np.eye(N_ELEMENTS)[atoms.numbers - 1]


class SymmetryFunctions(ElementModel):
    """The element of an atom, and histograms of the distances to its neighbours, for both layers.

    Weighted atom-centred symmetry functions (Gastegger et al., J. Chem. Phys. 148, 241709 (2018)):
    each neighbour counts once, by its atomic number, and by its covalent radius; 16 shells up to
    6 Å, no angles.
    """

    name = "symmetry-functions"
    cutoff, centres, width = 6.0, np.linspace(0.75, 5.75, 16), 0.35  # Å
    fingerprint = identity({"cutoff": 6.0, "shells": [0.75, 5.75, 16], "width": 0.35})
    widths = dict.fromkeys(LAYERS, N_ELEMENTS + 3 * 16)

    def describe(self, atoms: Atoms) -> np.ndarray:
        """(n_atoms, 166): the identity's rows, and a histogram for each of the three weights."""
        centre, neighbour, distance = neighbor_list("ijd", atoms, self.cutoff)
        others = atoms.numbers[neighbour]
        fade = 0.5 + 0.5 * np.cos(np.pi * distance / self.cutoff)[:, None]
        shells = fade * np.exp(-(((distance[:, None] - self.centres) / self.width) ** 2) / 2)
        weights = np.ones(len(others)), others / N_ELEMENTS, covalent_radii[others]
        sums = np.zeros((len(atoms), 3 * 16))
        np.add.at(sums, centre, np.hstack([w[:, None] * shells for w in weights]))
        return np.hstack([super().describe(atoms), sums])


def load(name: str, entry: dict) -> ElementModel | SymmetryFunctions:
    """The one of that name."""
    return ElementModel() if name == ElementModel.name else SymmetryFunctions()
