"""What a model must offer so that its latent features can be extracted."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms

LAYERS = ("backbone", "last")  # every model has these, some also interaction-1, interaction-2, ...
# hydrogen to bismuth, actinium to plutonium: those of MPtrj, Alexandria and OMat24
MATERIALS_ELEMENTS = np.r_[1:84, 89:95]


class Unsupported(ValueError):
    """A model refuses one structure; the message says why, the structure is left out."""


class LatentModel(Protocol):
    """A uMLIP seen as a map from structures to per-atom latent features.

    Attributes
    ----------
    name
        The name shown in tables and figures.
    fingerprint
        SHA-256 of the weights, so that stored features are never mistaken for another model's.
    widths
        Number of features of each layer: of `LAYERS`, and of any further one that the model offers.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, int]

    def prepare(self, atoms: Atoms) -> Any:
        """Build the model's own graph of one structure, or raise `Unsupported`."""

    def size(self, graph: Any) -> int:
        """Memory and time that a graph takes in a batch, in edges."""

    def features(self, graphs: Sequence[Any]) -> dict[str, np.ndarray]:
        """Features of every layer, (n_atoms, width) each, atoms in the order of the graphs."""


def weights_fingerprint(module: torch.nn.Module) -> str:
    """SHA-256 over the names and values of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def refuse_elements(atoms: Atoms, supported: np.ndarray, name: str) -> None:
    """Raise `Unsupported` naming the elements of `atoms` that are not in `supported`."""
    missing = ~np.isin(atoms.numbers, supported)
    if missing.any():
        symbols = ", ".join(sorted(set(np.array(atoms.get_chemical_symbols())[missing])))
        raise Unsupported(f"{name} does not know the element(s) {symbols}")


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


@contextlib.contextmanager
def recorded(
    inputs: Mapping[str, torch.nn.Module], outputs: Mapping[str, torch.nn.Module]
) -> Iterator[dict[str, torch.Tensor]]:
    """Tensors that go into some modules and come out of others in the enclosed forward pass.

    Parameters
    ----------
    inputs, outputs
        Modules, each by the name that its first input, or its output, gets.
    """
    found: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: found.__setitem__(name, args[0])
        )
        for name, module in inputs.items()
    ]
    hooks += [
        module.register_forward_hook(
            lambda module, args, output, name=name: found.__setitem__(name, output)
        )
        for name, module in outputs.items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def estimated_edges(atoms: Atoms, cell: np.ndarray, cutoff: float) -> int:
    """Directed edges that atoms spread evenly over the cell would have."""
    sphere = 4 / 3 * np.pi * cutoff**3
    neighbours = len(atoms) * sphere / max(abs(np.linalg.det(cell)), sphere)
    return int(len(atoms) * max(neighbours, 1))
