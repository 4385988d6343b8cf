"""CHGNet: backbone after the last convolution and readout norm, last layer of the readout MLP.

The library passes over the bond convolutions of a batch without a single angle, and applies them,
with their biases, to all of a batch that has one. What a structure without two bonds at an atom
gets would so depend on its company; here it is what the library gives for it alone.
"""

import contextlib
from pathlib import Path
from typing import Any

import chgnet
import numpy as np
import torch
from ase import Atoms
from ase.units import GPa
from chgnet.graph import CrystalGraph
from chgnet.model import CHGNet
from pymatgen.core import Structure

from ..resources import check_sha256
from .base import Activation, TrainableAdapter, Unsupported, interaction_names, periodic, seeded

FOLDER = Path(chgnet.__file__).parent / "pretrained"
SUPPORTED = np.arange(1, 95)


class ChgnetModel(TrainableAdapter):
    """Latent features of a `chgnet.model.CHGNet`, on the energy path only.

    Parameters
    ----------
    network
        Any CHGNet whose MLP comes before the pooling (all published ones).
    name
        Name shown in tables.
    """

    readout = "mlp."

    def __init__(self, network: CHGNet, name: str) -> None:
        self.architecture = network.model_args
        about = {key: a for key, a in network.model_args.items() if key != "version"}  # a label
        super().__init__(network, name, SUPPORTED, about)
        backbone, last = [Activation(network.mlp)], [Activation(network.mlp.layers[-1])]
        parts = [[Activation(conv, of_output=True)] for conv in network.atom_conv_layers]
        self.layers = {"backbone": backbone, "last": last, **interaction_names(parts)}

    def graph(self, atoms: Atoms) -> CrystalGraph:
        """CHGNet's own graph, with the cutoffs of this very checkpoint."""
        converter = self.network.graph_converter
        cell = periodic(atoms, 2 * converter.atom_graph_cutoff).cell.array
        structure = Structure(cell, atoms.numbers, atoms.positions, coords_are_cartesian=True)
        try:
            return converter(structure)
        except (ValueError, RuntimeError) as error:
            near = f"no neighbour inside {converter.atom_graph_cutoff:g} angstrom of an atom"
            why = near if "isolated atom" in str(error) else error
            raise Unsupported(f"{self.name} cannot build its graph ({why})") from None

    def size(self, graph: CrystalGraph) -> int:
        """Directed edges of the atom graph plus angles."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def forward(self, graphs: list[CrystalGraph]) -> dict[str, torch.Tensor]:
        """Around and inside the readout MLP, and after every convolution."""
        owners = np.repeat(np.arange(len(graphs)), [len(g.atomic_number) for g in graphs])
        groups = split_by_angles(graphs)
        parts = [super(ChgnetModel, self).forward([graphs[i] for i in g]) for g in groups]
        order = np.argsort(np.concatenate([np.flatnonzero(np.isin(owners, g)) for g in groups]))
        return {layer: torch.cat([part[layer] for part in parts])[order] for layer in self.layers}

    def run(self, graphs: list[CrystalGraph]) -> None:
        """One forward pass."""
        self.network([graph.to(self.device) for graph in graphs], task="e")

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        found = self.derivatives([self.prepare(atoms)])
        return found["e"].item(), found["f"][0].cpu().numpy()

    def derivatives(self, graphs: list[CrystalGraph]) -> dict[str, Any]:
        """Energies, forces and stresses of `CHGNet.forward`, from one backward pass.

        The library makes one for the forces and another for the stress, and a training has to go
        back through both, in twice the time. Here atoms are moved by zeros and the lattice is
        strained by zeros.

        Returns
        -------
        dict
            ``e`` (n_graphs,) in eV/atom, ``f`` (n_atoms, 3) each in eV/angstrom and ``s`` (3, 3)
            each in GPa; differentiable if the network is in training mode.
        """
        graphs = [graph.to(self.device) for graph in graphs]
        shifts = [torch.zeros_like(g.atom_frac_coord, requires_grad=True) for g in graphs]
        strains = [torch.zeros_like(g.lattice, requires_grad=True) for g in graphs]
        volumes = [graph.lattice.det().abs() for graph in graphs]
        for graph, shift, strain in zip(graphs, shifts, strains, strict=True):
            graph.atom_frac_coord = graph.atom_frac_coord.detach() + shift @ graph.lattice.inverse()
            graph.lattice = graph.lattice + graph.lattice @ strain
        groups = split_by_angles(graphs)
        found = [self.network([graphs[i] for i in g], task="e")["e"].reshape(-1) for g in groups]
        energies = torch.cat(found)[np.argsort(np.concatenate(groups))]
        total = energies @ energies.new_tensor([len(shift) for shift in shifts])
        slopes = torch.autograd.grad(total, shifts + strains, create_graph=self.network.training)
        forces = [-slope for slope in slopes[: len(graphs)]]
        stresses = [s / v / GPa for s, v in zip(slopes[len(graphs) :], volumes, strict=True)]
        return {"e": energies, "f": forces, "s": stresses}

    def energy_readout(self) -> tuple[np.ndarray, np.ndarray]:
        """The last map of the MLP."""
        linear = self.network.mlp.layers[-1]
        return linear.weight.numpy(force=True).T, linear.bias.numpy(force=True)

    @staticmethod
    def build(arguments: dict[str, Any], seed: int = 0) -> CHGNet:
        """A CHGNet with freshly drawn weights, and without its greeting on standard output."""
        with contextlib.redirect_stdout(None), seeded(seed):
            return CHGNet(**arguments)

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the composition model."""
        weight = self.network.composition_model.fc.weight
        with torch.no_grad():
            weight += torch.as_tensor(energies[SUPPORTED]).to(weight)


def split_by_angles(graphs: list[CrystalGraph]) -> list[np.ndarray]:
    """Positions of the graphs that have no angle, and of those that have some."""
    has_angles = np.array([len(graph.bond_graph) > 0 for graph in graphs])
    return [np.flatnonzero(has_angles == value) for value in np.unique(has_angles)]


def load(name: str, entry: dict) -> ChgnetModel:
    """A checkpoint of the chgnet package, or a file: ``.pth.tar``, or what `save` wrote.

    Of a ``.pth.tar`` nothing but tensors and plain values is unpickled. Version 0.2.0 has a bias in
    its message layers, which its arguments do not tell.
    """
    path = entry.get("path") or check_sha256(FOLDER / entry["file"], entry["sha256"])
    if path.suffix == ".safetensors":
        return ChgnetModel(ChgnetModel.restore(path), name)
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    has_bias = any("mlp_out" in key and key.endswith(".bias") for key in state["state_dict"])
    network = ChgnetModel.build({**state["model_args"], "mlp_out_bias": has_bias})
    network.load_state_dict(state["state_dict"])
    return ChgnetModel(network, name)
