"""DPA-3 of deepmd-kit: descriptor of the fitting net, input of its last layer.

Elements become types by the model's own type map, which may name more elements than the training
data of a branch. deepmd-kit batches only structures of one size, so they are taken one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import deepmd.lib
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ..resources import fetch
from .base import estimated_edges, padded_cell, refuse_elements, weights_fingerprint

# The compiled operators of the wheel fit one release of torch only. Features do not need them, so
# deepmd-kit is told that they are there already and uses what it has in Python.
torch.ops.loaded_libraries.add(str((Path(deepmd.lib.__path__[0]) / "libdeepmd_op_pt.so").resolve()))
from deepmd.infer import DeepPot  # noqa: E402

Graph = tuple[np.ndarray, np.ndarray | None, np.ndarray, int]


class DeepmdModel:
    """Latent features of an energy model of deepmd-kit's PyTorch backend.

    Parameters
    ----------
    network
        A frozen model or one branch of a checkpoint.
    name
        Name shown in tables.
    """

    def __init__(self, network: DeepPot, name: str) -> None:
        self.name = name
        self.network = network
        model = network.deep_eval.dp.model["Default"]
        self.fingerprint = weights_fingerprint(model)
        double = next(model.parameters()).dtype == torch.float64
        self.precision = "fp64" if double else "fp32"
        self.types = {atomic_numbers[s]: i for i, s in enumerate(network.get_type_map())}
        self.species = np.array(list(self.types))
        pair = Atoms(self.species[:1].repeat(2), [(0, 0, 0), (0, 0, 1.5)])
        self.widths = {k: x.shape[1] for k, x in self.features([self.prepare(pair)]).items()}

    def prepare(self, atoms: Atoms) -> Graph:
        """Positions, cell and types as deepmd-kit takes them, and the number of edges.

        Its cells are periodic in all directions or in none: a slab gets a vacuum.
        """
        refuse_elements(atoms, self.species, self.name)
        cutoff = self.network.get_rcut()
        cell = padded_cell(atoms, 2 * cutoff)
        edges = estimated_edges(atoms, cell, cutoff)
        types = np.array([self.types[z] for z in atoms.numbers])
        return atoms.positions, cell if atoms.pbc.any() else None, types, edges

    def size(self, graph: Graph) -> int:
        """Edges, estimated from the density: the network builds its neighbour list itself."""
        return graph[3]

    def features(self, graphs: Sequence[Graph]) -> dict[str, np.ndarray]:
        """Descriptor and last hidden activation of one forward pass each."""
        found = [
            self.network.eval_embedding(positions[None], cell, types, dtype=self.precision)[:2]
            for positions, cell, types, _ in graphs
        ]
        backbone, last = zip(*found, strict=True)
        return {
            "backbone": np.concatenate([x[0] for x in backbone]),
            "last": np.concatenate([x[0] for x in last]),
        }


def load(name: str, entry: dict) -> DeepmdModel:
    """One branch of a published multi-task checkpoint, or a single-task one."""
    path = fetch(entry["file"], entry["url"], entry.get("sha256"))
    return DeepmdModel(DeepPot(str(path), head=entry.get("branch"), no_jit=True), name)
