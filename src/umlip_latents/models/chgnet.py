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

from .base import Unsupported, refuse_elements, weights_fingerprint

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

    def __init__(self, network: CHGNet, name: str) -> None:
        self.name = name
        self.network = network.eval()
        self.fingerprint = weights_fingerprint(network)
        readout = network.mlp.layers
        self.widths = {"backbone": readout[0].in_features, "last": readout[-1].in_features}

    def prepare(self, atoms: Atoms) -> CrystalGraph:
        """CHGNet's own graph, with the cutoffs of this very checkpoint."""
        refuse_elements(atoms, SUPPORTED, self.name)
        cutoff = self.network.graph_converter.atom_graph_cutoff
        structure = Structure(
            Lattice(padded_cell(atoms, 2 * cutoff)),
            atoms.numbers,
            atoms.positions,
            coords_are_cartesian=True,
        )
        try:
            return self.network.graph_converter(structure)
        except (ValueError, RuntimeError) as error:
            if "isolated atom" in str(error):
                raise Unsupported(
                    f"{self.name} refuses atoms with no neighbour inside {cutoff:g} angstrom"
                ) from None
            raise Unsupported(f"{self.name} cannot build its graph ({error})") from None

    def size(self, graph: CrystalGraph) -> int:
        """Directed edges of the atom graph plus angles."""
        return len(graph.atom_graph) + len(graph.bond_graph)

    def features(self, graphs: Sequence[CrystalGraph]) -> dict[str, np.ndarray]:
        """Read both layers off one forward pass, at the input and inside of the readout MLP."""
        found: dict[str, torch.Tensor] = {}

        def keep(layer: str):
            return lambda module, inputs: found.__setitem__(layer, inputs[0])

        hooks = [
            self.network.mlp.register_forward_pre_hook(keep("backbone")),
            self.network.mlp.layers[-1].register_forward_pre_hook(keep("last")),
        ]
        try:
            with torch.inference_mode():
                self.network(list(graphs), task="e")
        finally:
            for hook in hooks:
                hook.remove()
        return {layer: tensor.cpu().numpy() for layer, tensor in found.items()}


def padded_cell(atoms: Atoms, vacuum: float) -> np.ndarray:
    """The cell, its non-periodic directions replaced by the extent of the atoms plus `vacuum`."""
    cell = atoms.cell.complete().array.copy()
    extent = np.ptp(atoms.positions, axis=0).max() + vacuum
    for axis in np.flatnonzero(~atoms.pbc):
        height = np.abs(np.linalg.det(cell)) / np.linalg.norm(
            np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
        )
        cell[axis] *= max(1.0, 2 * extent / height)
    return cell


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
