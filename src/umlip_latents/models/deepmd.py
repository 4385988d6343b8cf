"""DPA-3 of deepmd-kit: descriptor of the fitting net, input of its last layer.

Elements become types by the model's own type map, which may name more elements than the training
data of a branch. deepmd-kit batches only structures of one size, so they are taken one by one. It
chooses its device itself: a GPU if there is one.
"""

from pathlib import Path

import deepmd.lib
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from .base import LAYERS, Adapter, estimated_edges, periodic

# The compiled operators of the wheel fit one release of torch only. Features do not need them, so
# deepmd-kit is told that they are there already and uses what it has in Python.
torch.ops.loaded_libraries.add(str((Path(deepmd.lib.__path__[0]) / "libdeepmd_op_pt.so").resolve()))
from deepmd.infer import DeepPot  # noqa: E402

Graph = tuple[np.ndarray, np.ndarray | None, np.ndarray, int]


class DeepmdModel(Adapter):
    """Latent features of an energy model of deepmd-kit's PyTorch backend.

    Parameters
    ----------
    potential
        A frozen model or one branch of a checkpoint.
    name
        Name shown in tables.
    """

    def __init__(self, potential: DeepPot, name: str) -> None:
        self.potential = potential
        self.types = {atomic_numbers[s]: i for i, s in enumerate(potential.get_type_map())}
        about = {"cutoff": potential.get_rcut(), "types": list(self.types)}
        super().__init__(potential.deep_eval.dp.model["Default"], name, list(self.types), about)
        self.precision = {torch.float32: "fp32", torch.float64: "fp64"}[self.dtype]

    def graph(self, atoms: Atoms) -> Graph:
        """Positions, cell and types as deepmd-kit takes them, and the number of edges.

        Its cells are periodic in all directions or in none: a slab gets a vacuum.
        """
        cutoff = self.potential.get_rcut()
        boxed = periodic(atoms, 2 * cutoff)
        cell = boxed.cell.array if atoms.pbc.any() else None
        types = np.array([self.types[z] for z in atoms.numbers])
        return atoms.positions, cell, types, estimated_edges(boxed, cutoff)

    def size(self, graph: Graph) -> int:
        """Edges, estimated from the density: the network builds its neighbour list itself."""
        return graph[3]

    def to(self, device: torch.device | str) -> "DeepmdModel":
        """Ignored, the library chooses."""
        return self

    def features(self, graphs: list[Graph]) -> dict[str, np.ndarray]:
        """Descriptor and last hidden activation of one forward pass each."""
        found = [
            self.potential.eval_embedding(positions[None], cell, types, dtype=self.precision)[:2]
            for positions, cell, types, _ in graphs
        ]
        layers = zip(LAYERS, zip(*found, strict=True), strict=True)
        return {layer: np.concatenate([x[0] for x in parts]) for layer, parts in layers}


def load(name: str, entry: dict) -> DeepmdModel:
    """One branch of a published multi-task checkpoint, or a single-task one."""
    return DeepmdModel(DeepPot(str(entry["path"]), head=entry.get("branch"), no_jit=True), name)
