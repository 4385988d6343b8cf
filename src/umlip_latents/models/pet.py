"""PET through metatomic: its own outputs for internal features and for last-layer features.

Both hold the node's features and the cutoff-weighted sum over its edges, side by side. PET reads
Cartesian edge vectors with an unconstrained transformer: it learns rotational invariance from data,
its features are not invariant by construction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from metatomic.torch import (
    AtomisticModel,
    ModelEvaluationOptions,
    ModelOutput,
    System,
    systems_to_torch,
)
from metatrain.utils.io import load_model
from vesin.metatomic import neighbor_lists_for_model

from ..resources import fetch
from .base import refuse_elements, weights_fingerprint


class PetModel:
    """Latent features of a metatomic model that offers them as outputs.

    Parameters
    ----------
    network
        An exported model.
    name
        Name shown in tables.
    target
        What the last layer predicts: ``energy``, or ``dos`` for PET-MAD-DOS.
    """

    def __init__(self, network: AtomisticModel, name: str, target: str = "energy") -> None:
        self.name = name
        self.network = network.eval()
        self.fingerprint = weights_fingerprint(network)
        capabilities = network.capabilities()
        self.species = np.array(capabilities.atomic_types)
        self.dtype = getattr(torch, capabilities.dtype)
        self.neighbour_lists = neighbor_lists_for_model("angstrom", network, skin=0.0)
        self.outputs = {
            "backbone": "feature",
            "last": f"mtt::aux::{target}_last_layer_features",
        }
        self.options = ModelEvaluationOptions(
            length_unit="angstrom",
            outputs={output: ModelOutput(sample_kind="atom") for output in self.outputs.values()},
        )
        probe = self.prepare(Atoms(self.species[:1].repeat(2), [(0, 0, 0), (0, 0, 1)]))
        self.widths = {layer: x.shape[1] for layer, x in self.features([probe]).items()}

    def prepare(self, atoms: Atoms) -> System:
        """A metatomic system with the neighbour lists that the model asks for."""
        refuse_elements(atoms, self.species, self.name)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        # directions without periodicity have no cell vector in metatomic
        bare.cell[~bare.pbc] = 0
        system = systems_to_torch(bare, dtype=self.dtype)
        for neighbour_list in self.neighbour_lists:
            neighbour_list.add_neighbor_list(system)
        return system

    def size(self, graph: System) -> int:
        """Directed edges."""
        lists = graph.known_neighbor_lists()
        return sum(len(graph.get_neighbor_list(options)) for options in lists)

    def features(self, graphs: Sequence[System]) -> dict[str, np.ndarray]:
        """Ask for both outputs in one evaluation; without `energy` nothing else is computed."""
        with torch.no_grad():
            found = self.network(list(graphs), self.options, check_consistency=False)
        return {layer: found[key].block().values.numpy() for layer, key in self.outputs.items()}


def load(name: str, entry: dict) -> PetModel:
    """A published metatrain checkpoint, exported to metatomic."""
    path = fetch(entry["file"], entry["url"], entry.get("sha256"))
    return PetModel(load_model(path).export(), name, entry.get("target", "energy"))
