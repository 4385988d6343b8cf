"""MatterSim v1, an M3GNet: atom features after the last block, inputs of the readout's last maps.

The readout is a gated MLP, E = (w·h + b) sigmoid(v·g + c): its two branches end in one linear map
each, and the last layer holds the inputs of both, h and g.
"""

import torch
from ase import Atoms
from mattersim.datasets.utils.convertor import GraphConvertor
from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
from mattersim.forcefield.potential import Potential, batch_to_dict
from torch_geometric.data import Batch, Data

from .base import MATERIALS_ELEMENTS, Activation, Adapter, Unsupported, periodic


class MatterSimModel(Adapter):
    """Latent features of the M3GNet of a MatterSim potential, on the energy path only.

    Parameters
    ----------
    network
        The network of a `Potential`.
    name
        Name shown in tables.
    """

    def __init__(self, network: M3Gnet, name: str) -> None:
        # the embedding has rows for all elements up to plutonium, trained or not
        args = network.model_args
        super().__init__(network, name, MATERIALS_ELEMENTS, args)
        self.cutoff = args["cutoff"]
        self.converter = GraphConvertor("m3gnet", self.cutoff, True, args["threebody_cutoff"])
        readout = network.final
        last = [Activation(readout.g[-1].linear), Activation(readout.sigma[-1].linear)]
        self.layers = {"backbone": [Activation(readout)], "last": last}

    def graph(self, atoms: Atoms) -> Data:
        """MatterSim's own graph, in a cell with vacuum where the structure is not periodic."""
        graph = self.converter.convert(periodic(atoms, 2 * self.cutoff))
        if len(torch.unique(graph.edge_index[0])) < len(atoms):
            near = f"no neighbour inside {self.cutoff:g} angstrom of an atom"
            raise Unsupported(f"{self.name}: {near}")
        return graph

    def size(self, graph: Data) -> int:
        """Directed edges plus angles."""
        return int(graph.num_bonds + graph.num_three_body)

    def run(self, graphs: list[Data]) -> None:
        """One forward pass."""
        batch = batch_to_dict(Batch.from_data_list(graphs), device="cpu")
        self.network({key: torch.as_tensor(x).to(self.device) for key, x in batch.items()})


def load(name: str, entry: dict) -> MatterSimModel:
    """A published checkpoint, without the state of its training."""
    file = str(entry["path"])
    potential = Potential.from_checkpoint(file, device="cpu", load_training_state=False)
    return MatterSimModel(potential.model, name)
