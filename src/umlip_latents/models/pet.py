"""PET through metatomic: its own outputs for internal features and for last-layer features.

Both hold the node's features and the cutoff-weighted sum over its edges, side by side. PET reads
Cartesian edge vectors with an unconstrained transformer: it learns rotational invariance from data,
its features are not invariant by construction.
"""

import torch
from ase import Atoms
from metatomic import torch as metatomic
from metatrain.utils.io import load_model
from vesin.metatomic import neighbor_lists_for_model

from .base import Adapter


class PetModel(Adapter):
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

    def __init__(self, network: metatomic.AtomisticModel, name: str, target: str) -> None:
        capabilities = network.capabilities()
        about = {"range": capabilities.interaction_range, "target": target}
        super().__init__(network, name, capabilities.atomic_types, about)
        self.dtype = getattr(torch, capabilities.dtype)
        self.neighbour_lists = neighbor_lists_for_model("angstrom", network, skin=0.0)
        self.outputs = {"backbone": "feature", "last": f"mtt::aux::{target}_last_layer_features"}
        of_atoms = metatomic.ModelOutput(sample_kind="atom")
        self.options = metatomic.ModelEvaluationOptions(
            length_unit="angstrom", outputs=dict.fromkeys(self.outputs.values(), of_atoms)
        )

    def graph(self, atoms: Atoms) -> metatomic.System:
        """A metatomic system with the neighbour lists that the model asks for."""
        # directions without periodicity have no cell vector in metatomic
        atoms.cell[~atoms.pbc] = 0
        system = metatomic.systems_to_torch(atoms, dtype=self.dtype)
        for neighbour_list in self.neighbour_lists:
            neighbour_list.add_neighbor_list(system)
        return system

    def size(self, graph: metatomic.System) -> int:
        """Directed edges."""
        lists = graph.known_neighbor_lists()
        return sum(len(graph.get_neighbor_list(options)) for options in lists)

    def forward(self, graphs: list[metatomic.System]) -> dict[str, torch.Tensor]:
        """Ask for both outputs in one evaluation; without `energy` nothing else is computed."""
        systems = [graph.to(device=self.device) for graph in graphs]
        with torch.no_grad():
            found = self.network(systems, self.options, check_consistency=False)
        return {layer: found[key].block().values for layer, key in self.outputs.items()}


def load(name: str, entry: dict) -> PetModel:
    """A published metatrain checkpoint, exported to metatomic."""
    return PetModel(load_model(entry["path"]).export(), name, entry.get("target", "energy"))
