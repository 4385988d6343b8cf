"""The element baseline: who an atom is, and nothing about where it sits."""

from types import MappingProxyType

import numpy as np
from ase import Atoms

from .base import identity

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


def load(name: str, entry: dict) -> ElementModel:
    """There is only the one."""
    return ElementModel()
