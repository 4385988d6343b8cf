"""Orb v3: node features after the last message passing, hidden layer of the energy head.

Orb averages the node features of a structure before its energy head. The last layer of an atom is
therefore the head's hidden activation for that atom's node features alone, and the final linear map
gives the library's energy per atom exactly where all atoms are translates of one another.

Edges carry spherical harmonics that a plain MLP mixes: Orb learns rotational invariance from data,
its features are not invariant by construction.
"""

import torch
from ase import Atoms
from orb_models.forcefield import pretrained
from orb_models.forcefield.atomic_system import ase_atoms_to_atom_graphs
from orb_models.forcefield.base import AtomGraphs, batch_graphs

from .base import MATERIALS_ELEMENTS, Activation, Adapter, periodic


class OrbModel(Adapter):
    """Latent features of an Orb regressor, on the energy path only.

    Parameters
    ----------
    network
        A direct or conservative regressor of `orb_models` with an energy head.
    name
        Name shown in tables.
    """

    def __init__(self, network: torch.nn.Module, name: str) -> None:
        # the embedding has rows for all elements, trained or not
        about = {"system": repr(network.system_config)}  # cutoff and number of neighbours
        super().__init__(network, name, MATERIALS_ELEMENTS, about)
        readout = network.heads["energy"].mlp
        linear = [i for i, m in enumerate(readout) if isinstance(m, torch.nn.Linear)]
        self.hidden = readout[: linear[-1]]
        last = Activation(self.hidden, of_output=True)
        self.layers = {"backbone": [Activation(self.hidden)], "last": [last]}

    def graph(self, atoms: Atoms) -> AtomGraphs:
        """Orb's own graph; it has no slabs, so these get a vacuum wider than twice its cutoff."""
        config = self.network.system_config
        if atoms.pbc.any():
            atoms = periodic(atoms, 2 * config.radius)
        precision = dict.fromkeys(("output_dtype", "graph_construction_dtype"), self.dtype)
        return ase_atoms_to_atom_graphs(atoms, config, **precision)

    def size(self, graph: AtomGraphs) -> int:
        """Directed edges."""
        return len(graph.senders)

    def run(self, graphs: list[AtomGraphs]) -> None:
        """The message passing network, then the energy head up to its last linear map."""
        self.hidden(self.network.model(batch_graphs(graphs).to(self.device))["node_features"])


def load(name: str, entry: dict) -> OrbModel:
    """A published checkpoint, built by the function of `orb_models` that has its architecture."""
    build = pretrained.ORB_PRETRAINED_MODELS[name]
    network = build(str(entry["path"]), device="cpu", precision="float32-highest", compile=False)
    return OrbModel(network, name)
