"""CHGNet: backbone after the last convolution and readout norm, last layer of the readout MLP."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from pymatgen.core import Lattice, Structure
from safetensors.torch import save_file

from ..resources import check, written_whole
from .base import Unsupported, padded_cell, recorded, refuse_elements, weights_fingerprint

with contextlib.redirect_stdout(io.StringIO()):
    import chgnet
    from chgnet.graph import CrystalGraph
    from chgnet.model import CHGNet

SUPPORTED = np.arange(1, 95)


class ChgnetModel:
    """Latent features of a `chgnet.model.CHGNet`, on the energy path only.

    Parameters
    ----------
    network
        Any CHGNet whose MLP comes before the pooling (all published ones).
    name
        Name shown in tables.
    """

    HEAD = "mlp."  # what the names of the readout's weights begin with

    def __init__(self, network: CHGNet, name: str) -> None:
        self.name = name
        self.network = network.eval()
        self.fingerprint = weights_fingerprint(network)
        readout = network.mlp.layers
        self.inputs = {"backbone": network.mlp, "last": readout[-1]}
        convolutions = enumerate(network.atom_conv_layers, start=1)
        self.outputs = {f"interaction-{i}": layer for i, layer in convolutions}
        self.widths = {"backbone": readout[0].in_features, "last": readout[-1].in_features}
        self.widths |= dict.fromkeys(self.outputs, self.widths["backbone"])

    def prepare(self, atoms: Atoms) -> CrystalGraph:
        """CHGNet's own graph, with the cutoffs of this very checkpoint."""
        refuse_elements(atoms, SUPPORTED, self.name)
        converter = self.network.graph_converter
        structure = Structure(
            Lattice(padded_cell(atoms, 2 * converter.atom_graph_cutoff)),
            atoms.numbers,
            atoms.positions,
            coords_are_cartesian=True,
        )
        return crystal_graph(
            structure, converter.atom_graph_cutoff, converter.bond_graph_cutoff, self.name
        )

    def size(self, graph: CrystalGraph) -> int:
        """Directed edges of the atom graph plus angles."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def features(self, graphs: Sequence[CrystalGraph]) -> dict[str, np.ndarray]:
        """Read all layers off one forward pass: around and inside the readout MLP, convolutions."""
        with torch.inference_mode(), recorded(self.inputs, self.outputs) as found:
            self.network(list(graphs), task="e")
        return {layer: tensor.cpu().numpy() for layer, tensor in found.items()}

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""
        found = self.network([self.prepare(atoms)], task="ef")
        return found["e"].item(), found["f"][0].detach().numpy()

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to the composition model."""
        weight = self.network.composition_model.fc.weight
        with torch.no_grad():
            weight += torch.tensor(energies[SUPPORTED], dtype=weight.dtype)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        with written_whole(path) as temporary:
            save_file(self.network.state_dict(), temporary)

    def untrained(self, seed: int) -> CHGNet:
        """The same architecture with freshly drawn weights."""
        return untrained(self.network, seed)


def crystal_graph(
    structure: Structure, atom_cutoff: float, bond_cutoff: float, name: str
) -> CrystalGraph:
    """The graph of CHGNet's own converter, which pairs edges and lists angles in Python loops.

    Undirected edges and angles come in another order, over which the network sums.
    """
    center, neighbor, image, distance = structure.get_neighbor_list(
        atom_cutoff, sites=structure.sites, numerical_tol=1e-8
    )
    if len(np.unique(center)) < len(structure):
        raise Unsupported(f"{name} refuses atoms with no neighbour inside {atom_cutoff:g} angstrom")
    # an edge and its way back are one undirected edge: both named by the smaller of the two
    there = np.column_stack([center, neighbor, image]).astype(np.int64)
    back = np.column_stack([neighbor, center, -image]).astype(np.int64)
    leading = np.argmax(there != back, axis=1)[:, None]
    smaller = np.take_along_axis(there - back, leading, axis=1) < 0
    _, directed, undirected, counts = np.unique(
        np.where(smaller, there, back),
        axis=0,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    if (counts != 2).any():
        raise Unsupported(f"{name} cannot build its graph (an edge has no way back)")
    # angles: ordered pairs of different short edges of one atom
    left = np.flatnonzero(distance <= bond_cutoff)
    right = np.flatnonzero(distance < bond_cutoff)
    right = right[np.argsort(center[right], kind="stable")]
    first = np.searchsorted(center[right], center[left])
    n_right = np.searchsorted(center[right], center[left], side="right") - first
    one = np.repeat(left, n_right)
    offset = np.arange(len(one)) - np.repeat(np.cumsum(n_right) - n_right - first, n_right)
    other = right[offset]
    one, other = one[one != other], other[one != other]
    undirected = undirected.reshape(-1)
    angles = np.column_stack([center[one], undirected[one], one, undirected[other], other])
    return CrystalGraph(
        atomic_number=torch.tensor(structure.atomic_numbers, dtype=torch.int32),
        atom_frac_coord=torch.tensor(
            structure.frac_coords, dtype=torch.float32, requires_grad=True
        ),
        atom_graph=torch.tensor(there[:, :2], dtype=torch.int32),
        neighbor_image=torch.tensor(image, dtype=torch.float32),
        directed2undirected=torch.tensor(undirected, dtype=torch.int32),
        undirected2directed=torch.tensor(directed, dtype=torch.int32),
        bond_graph=torch.tensor(angles, dtype=torch.int32),
        lattice=torch.tensor(structure.lattice.matrix, dtype=torch.float32, requires_grad=True),
        composition=structure.composition.formula,
        atom_graph_cutoff=atom_cutoff,
        bond_graph_cutoff=bond_cutoff,
    )


def quietly(build, *args: Any, **kwargs: Any) -> CHGNet:
    """Build a CHGNet without its greeting on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        return build(*args, **kwargs)


def load_file(path: Path, version: str | None = None) -> CHGNet:
    """A CHGNet from a checkpoint file, unpickling nothing but tensors and plain values.

    As in `CHGNet.load`, version 0.2.0 has a bias in its message layers.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    extra = {"mlp_out_bias": version == "0.2.0"}
    if version:
        extra["version"] = version
    network = quietly(CHGNet, **{**state["model_args"], **extra})
    network.load_state_dict(state["state_dict"])
    return network


def packaged_file(relative: str) -> Path:
    """A checkpoint that comes with the chgnet package."""
    return Path(chgnet.__file__).parent / "pretrained" / relative


def untrained(like: CHGNet, seed: int) -> CHGNet:
    """The same architecture with freshly drawn weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return quietly(CHGNet, **like.model_args)


def load(name: str, entry: dict) -> ChgnetModel:
    """A checkpoint of the chgnet package, or a twin of it with weights drawn from a seed."""
    network = load_file(check(packaged_file(entry["file"]), entry["sha256"]), entry["version"])
    return ChgnetModel(untrained(network, entry["seed"]) if "seed" in entry else network, name)


def from_file(path: Path) -> ChgnetModel:
    """A CHGNet ``.pth.tar``."""
    return ChgnetModel(load_file(path), path.name.removesuffix(".pth.tar"))
