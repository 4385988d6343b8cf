"""The networks of matgl, and DIEP: node features that enter the readout, inputs of its final maps.

The energy of an atom is the product of two branches that start from its features, a value and a
gate. Of matgl's two codes, the one whose library is installed in the environment is used.

DIEP 2.0 has the interactions and the readout of M3GNet. Distances and angles come in as integrals
of the potential that two or three nuclei make for the electrons around them. No module of SO3Net
gives the features after an interaction, so that it has no further layers.
"""

import copy
import json
import os
from importlib import import_module
from importlib.util import find_spec
from operator import itemgetter
from typing import Any

import matgl
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ..resources import InputError, check_sha256
from .base import LAYERS, Activation, Adapter, interaction_names, periodic, seeded

BACKEND = "DGL" if find_spec("dgl") else "PYG"
matgl.set_backend(BACKEND)
os.environ["DGLBACKEND"] = "pytorch"  # or dgl leaves a file in the home folder
if BACKEND == "DGL":
    from dgl import batch as join
    from dgl import edge_subgraph, reverse
else:
    from torch_geometric.data import Batch

    join = Batch.from_data_list
compute = import_module(f"matgl.graph._compute_{BACKEND.lower()}")
Atoms2Graph = import_module(f"matgl.ext._ase_{BACKEND.lower()}").Atoms2Graph
from matgl.utils.maths import decompose_tensor, tensor_norm  # noqa: E402


class MatglModel(Adapter):
    """Latent features of a model of matgl, on the energy path only.

    The backbone is what enters the gated readout, the last layer what enters the final linear maps
    of its value and its gate. A network of formation energies has no such readout: its Set2Set
    takes the atoms of a structure together, weighed against each other, and no layer after the
    last interaction belongs to an atom. There that one is backbone and last layer.

    Parameters
    ----------
    network
        The library's network; where its interactions are is `interactions`, if it has them.
    name
        Name shown in tables.
    """

    interactions = "graph_layers"
    invariants = itemgetter(1)  # of an atom, between what an interaction gives of edges and state
    scale = 1.0  # of the potential, in eV

    def __init__(self, network: torch.nn.Module, name: str) -> None:
        elements = [atomic_numbers[s] for s in network.element_types]
        about = {key: getattr(network, key, None) for key in ("cutoff", "threebody_cutoff")}
        super().__init__(network, name, elements, about | {"backend": BACKEND})
        self.converter = Atoms2Graph(network.element_types, network.cutoff)
        modules = getattr(network, self.interactions, ())
        interactions = [[Activation(m, self.invariants, True)] for m in modules]
        if gated := getattr(network.final_layer, "gated", None):
            last = [Activation(gated.layers[-1]), Activation(gated.gates[-2])]
            self.layers = {"backbone": [Activation(gated)], "last": last}
        else:
            self.layers = dict.fromkeys(LAYERS, interactions[-1])
        self.layers |= interaction_names(interactions)

    def graph(self, atoms: Atoms) -> Any:
        """matgl's own graph, in the precision of the network."""
        boxed = periodic(atoms, 2 * self.network.cutoff)
        graph = self.converter.get_graph(boxed)[0]
        nodes, edges = (graph.ndata, graph.edata) if BACKEND == "DGL" else (graph, graph)
        cell = torch.tensor(boxed.cell.array, dtype=self.dtype)
        nodes["pos"] = torch.tensor(boxed.positions, dtype=self.dtype)
        edges["pbc_offshift"] = edges["pbc_offset"].to(self.dtype) @ cell
        edges["bond_vec"], edges["bond_dist"] = compute.compute_pair_vector_and_distance(graph)
        return graph

    def size(self, graph: Any) -> int:
        """Directed edges."""
        return len((graph.edata if BACKEND == "DGL" else graph)["bond_dist"])

    def batch(self, graphs: list[Any]) -> dict[str, Any]:
        """What the network is called with: a batch as its graph ``g``."""
        return {"g": join(graphs)}

    def run(self, graphs: list[Any]) -> None:
        """One forward pass."""
        self.network(**{key: x.to(self.device) for key, x in self.batch(graphs).items()})

    def energy_readout(self) -> tuple[np.ndarray, np.ndarray]:
        """The last maps of value and gate."""
        if self.scale is None:
            return super().energy_readout()
        value, gate = (part.module for part in self.layers["last"])
        weights = torch.block_diag(self.scale * value.weight, gate.weight)
        biases = torch.cat([self.scale * value.bias, gate.bias])
        return weights.numpy(force=True).T, biases.numpy(force=True)

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same architecture with freshly drawn weights."""
        network = copy.deepcopy(self.network)
        with seeded(seed):
            for module in reversed([*network.modules()]):  # a parent may draw its children's anew
                getattr(module, "reset_parameters", bool)()
        return network


class TensorNetModel(MatglModel):
    """Latent features of a TensorNet.

    The interactions of matgl's two codes differ. That for PyTorch-geometric sums over an atom's
    edges the tensors of its neighbours; that for DGL sums the atom's own tensor, times the weights
    of the edges, so that beyond the embedding nothing travels from atom to atom. Weights of one are
    wrong in the other.
    """

    interactions = "layers"

    @staticmethod
    def invariants(output: torch.Tensor) -> torch.Tensor:
        """Squared norms of the scalar, skew and traceless parts, as the readout takes them."""
        return torch.cat([tensor_norm(part) for part in decompose_tensor(output)], dim=1)


class QetModel(TensorNetModel):
    """Latent features of a QET: a TensorNet whose charges are in equilibrium.

    The readout takes of every atom the node features, its charge and the electrostatic potential of
    the charges around it. Charges sum up to zero over a structure.
    """

    def batch(self, graphs: list[Any]) -> dict[str, Any]:
        """A batch of neutral structures."""
        return super().batch(graphs) | {"total_charge": torch.zeros(1, dtype=self.dtype)}

    def forward(self, graphs: list[Any]) -> dict[str, torch.Tensor]:
        """As all of matgl's; one atom alone, which QET refuses, goes twice."""
        if sum(graph.num_nodes() for graph in graphs) == 1:
            return {layer: x[:1] for layer, x in self.forward(graphs * 2).items()}
        return super().forward(graphs)


class M3GNetModel(MatglModel):
    """Latent features of an M3GNet.

    matgl numbers the bonds of a three-body graph among those within the three-body cutoff, looks
    them up among all, and takes each to be part of a triple. Here those that are come first, so
    that both numbers are the same and features depend on neither batch nor order.

    In the potentials of August 2023 and later, angles have next to no weight: this order changes
    the energy of distorted silicon by less than 2e-4 eV/atom, and leaving out the angles altogether
    by less than that. The first training of 2021's potential does use them. It took place while
    matgl's line graphs named the two bonds of a triple in the opposite order (`exchanged`): what a
    bond learns of a triple is its own end atom and length.
    """

    exchanged = False

    def batch(self, graphs: list[Any]) -> dict[str, Any]:
        """A batch with the bonds of triples first, and the line graph that joins these."""
        joined = super().batch(graphs)["g"]
        cutoff = self.network.threebody_cutoff
        near, atom = joined.edata["bond_dist"] <= cutoff, joined.edges()[0].long()
        in_triple = near & (torch.bincount(atom[near], minlength=len(atom))[atom] > 1)
        order = torch.argsort(~in_triple, stable=True).int()
        options = {"relabel_nodes": False, "store_ids": False}
        triples = edge_subgraph(joined, order[: in_triple.sum()], **options)
        graph = edge_subgraph(joined, order, **options)
        lines = compute.create_line_graph(triples, cutoff)
        return {"g": graph, "l_g": reverse(lines, copy_ndata=True) if self.exchanged else lines}


ADAPTERS = {"TensorNet": TensorNetModel, "QET": QetModel, "M3GNet": M3GNetModel}
MODULES = {"DIEP": "diep.models", "QET": "matgl.models._qet_dgl"}


def load(name: str, entry: dict) -> MatglModel:
    """A network that matgl or DIEP publishes or that matgl saved, read without unpickling.

    The energies of the elements are left out. What the file lacks are
    constants, and in one model the weights of its readout, which no feature depends on.
    """
    family, path, arguments = entry["family"], entry.get("path"), entry.get("arguments")
    network = getattr(import_module(MODULES.get(family, "matgl.models")), family)
    if not path:  # in the package of DIEP
        folder = import_module("diep.pretrained").DEFAULT_MODEL_DIR
        path = check_sha256(folder.parent / entry["file"], entry["sha256"])
        arguments = path.with_name("model.pt")
    options = {"map_location": "cpu", "weights_only": True}
    if arguments.suffix == ".json":
        potential = {"model": json.loads(arguments.read_text())["kwargs"]["model"]}
    else:
        potential = torch.load(arguments, **options)
    keywords = potential["model"]["init_args"]
    if "dtype" in keywords:  # a text in JSON
        keywords["dtype"] = getattr(torch, str(keywords["dtype"]).removeprefix("torch."))
    keywords["dim_state_embedding"] = keywords["dim_state_embedding"] or 0  # of old files
    with seeded(0):
        built = network(**keywords)
    weights = torch.load(path, **options).items()
    own = {key.removeprefix("model."): w for key, w in weights if key.startswith("model.")}
    missing, unexpected = built.load_state_dict(own, strict=False)
    lacking = {*missing} & {key for key, _ in built.named_parameters()}
    if odd := [*unexpected, *(key for key in lacking if not key.startswith("readout.set2set."))]:
        raise InputError(f"{name}: its weights do not fit its network ({', '.join(odd[:3])}).")
    model = ADAPTERS.get(family, MatglModel)(built, name)
    model.scale = potential.get("data_std")
    model.exchanged = entry.get("exchanged", False)
    return model
