"""What a model must offer so that its latent features can be extracted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms

LAYERS = ("backbone", "last")


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
        Number of features of each layer of `LAYERS`.
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
