"""What TensorNet and M3GNet of matgl share: graphs, the gated readout, and how they are loaded.

The energy of an atom is the product of two branches that start from its features, a value and a
gate. Of matgl's two codes, the one whose library is installed in the environment is used.
"""

import copy
import os
from importlib.util import find_spec
from typing import Any

import matgl
import torch
from ase import Atoms
from ase.data import atomic_numbers

from .base import Adapter, capture_activations, interaction_names, periodic, seeded

BACKEND = "DGL" if find_spec("dgl") else "PYG"
matgl.set_backend(BACKEND)
os.environ["DGLBACKEND"] = "pytorch"  # or dgl leaves a file in the home folder
if BACKEND == "DGL":
    from dgl import batch as join
    from matgl.ext._ase_dgl import Atoms2Graph
    from matgl.graph._compute_dgl import compute_pair_vector_and_distance
else:
    from matgl.ext._ase_pyg import Atoms2Graph
    from matgl.graph._compute_pyg import compute_pair_vector_and_distance
    from torch_geometric.data import Batch

    join = Batch.from_data_list


class MatglModel(Adapter):
    """Latent features of an energy model of matgl, on the energy path only.

    Each family adds `interactions`, where its network has them, and `invariants`, what these give
    of every atom.

    Parameters
    ----------
    network
        A network that is extensive, so that its readout is gated (all published potentials).
    name
        Name shown in tables.
    """

    def __init__(self, network: torch.nn.Module, name: str) -> None:
        elements = [atomic_numbers[s] for s in network.element_types]
        about = {key: getattr(network, key, None) for key in ("cutoff", "threebody_cutoff")}
        super().__init__(network, name, elements, about | {"backend": BACKEND})
        self.converter = Atoms2Graph(network.element_types, network.cutoff)
        readout = network.final_layer.gated
        self.inputs = {"backbone": readout, "value": readout.layers[-1], "gate": readout.gates[-2]}
        self.outputs = interaction_names(getattr(network, self.interactions))

    def graph(self, atoms: Atoms) -> Any:
        """matgl's own graph, in the precision of the network."""
        boxed = periodic(atoms, 2 * self.network.cutoff)
        graph = self.converter.get_graph(boxed)[0]
        nodes, edges = (graph.ndata, graph.edata) if BACKEND == "DGL" else (graph, graph)
        cell = torch.tensor(boxed.cell.array, dtype=self.dtype)
        nodes["pos"] = torch.tensor(boxed.positions, dtype=self.dtype)
        edges["pbc_offshift"] = edges["pbc_offset"].to(self.dtype) @ cell
        edges["bond_vec"], edges["bond_dist"] = compute_pair_vector_and_distance(graph)
        return graph

    def size(self, graph: Any) -> int:
        """Directed edges."""
        return len((graph.edata if BACKEND == "DGL" else graph)["bond_dist"])

    def batch(self, graphs: list[Any]) -> dict[str, Any]:
        """What the network is called with: a batch as its graph ``g``."""
        return {"g": join(graphs)}

    def forward(self, graphs: list[Any]) -> dict[str, torch.Tensor]:
        """Around and inside the readout, and after every interaction."""
        batch = {key: graph.to(self.device) for key, graph in self.batch(graphs).items()}
        with capture_activations(self.inputs, self.outputs) as found:
            self.network(**batch)
        last = torch.cat([found["value"], found["gate"]], dim=1)
        interactions = {name: self.invariants(found[name]) for name in self.outputs}
        return {"backbone": found["backbone"], "last": last, **interactions}

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same architecture with freshly drawn weights."""
        network = copy.deepcopy(self.network)
        with seeded(seed):
            for module in reversed([*network.modules()]):  # a parent may draw its children's anew
                getattr(module, "reset_parameters", bool)()
        return network


def read(network: type[torch.nn.Module], entry: dict) -> torch.nn.Module:
    """A published network, from files that are read without unpickling.

    The potential's scale and the energies of the elements are left out.
    """
    options = {"map_location": "cpu", "weights_only": True}
    arguments, state = (torch.load(entry[key], **options) for key in ("arguments", "path"))
    built = network(**arguments["model"]["init_args"])
    names = [name for name in state if name.startswith("model.")]
    built.load_state_dict({name.removeprefix("model."): state[name] for name in names})
    return built
