"""What a model must offer so that its latent features can be extracted, and to be trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms

from ..resources import InputError
from ..structures import spanned

LAYERS = ("backbone", "last")  # every model has these, some also interaction-1, interaction-2, ...
# hydrogen to bismuth, actinium to plutonium: those of MPtrj, Alexandria and OMat24
MATERIALS_ELEMENTS = np.r_[1:84, 89:95]
# Of the code of all adapters. Raise it when the features that any of them gives change, and what
# is stored of older ones is computed anew.
VERSION = 1


class Unsupported(ValueError):
    """A model refuses one structure; the message says why, the structure is left out."""


class LatentModel(Protocol):
    """A uMLIP seen as a map from structures to per-atom latent features.

    Attributes
    ----------
    name
        The name shown in tables and figures.
    fingerprint
        Its `identity`, so that stored features are never mistaken for another model's.
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


class Course(NamedTuple):
    """What a model is trained on, and how.

    Attributes
    ----------
    training, replay
        Labelled structures; those for replay keep a readout of their own.
    shift
        (119,) energy in eV to add to that of each element before the first step.
    folder
        Where the caller leaves the `weights_file` of each epoch before it asks for the next, and
        the family may keep files of its own.
    first
        The first epoch that is not there yet.
    epochs, learning_rate, batch_size, seed
        The usual; the seed draws the order of the structures.
    """

    training: Sequence[Atoms]
    replay: Sequence[Atoms]
    shift: np.ndarray
    folder: Path
    first: int
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int


@runtime_checkable
class TrainableModel(LatentModel, Protocol):
    """A model that can be trained on; ``type(model)(network, name)`` makes another one.

    Attributes
    ----------
    network
        The weights; those whose ``requires_grad`` is false stay as they are in `train_on`.
    readout
        What the names of the readout's weights begin with.
    replays
        Whether `train_on` takes structures for replay.
    """

    network: torch.nn.Module
    readout: str
    replays: bool

    def energy_and_forces(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Energy in eV/atom and forces (n_atoms, 3) in eV/angstrom."""

    def shift_elements(self, energies: np.ndarray) -> None:
        """Add energies in eV, indexed by atomic number, to what an atom of each element has."""

    def untrained(self, seed: int) -> torch.nn.Module:
        """A network of the same architecture with freshly drawn weights."""

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, with whatever `restored` needs beside them."""

    def restored(self, path: Path, name: str) -> TrainableModel:
        """The model of the same family that `save` wrote."""

    def train_on(self, course: Course) -> Iterator[tuple[int, TrainableModel]]:
        """Shift the elements' energies, train, and give number and raw model of every epoch.

        Epoch 0 is the state before any step. A family that cannot go on from the epochs that are
        there gives all of them again.
        """


def weights_file(folder: Path, epoch: int) -> Path:
    """Raw weights after an epoch."""
    return folder / f"epoch-{epoch:03d}.safetensors"


class Adapter:
    """What the families share. Each adds `graph`, what `features` takes, and `features`.

    Attributes
    ----------
    forks
        Whether a fork of the process can compute, too: not where the library has threads of its
        own. A model without this attribute is taken not to.

    Parameters
    ----------
    network
        The library's network, which is put into evaluation mode.
    name
        Name shown in tables.
    elements
        Atomic numbers that it knows.
    about
        Whatever else decides about its features, hyperparameters above all, as plain values.

    Raises
    ------
    InputError
        A weight is not a finite number.
    """

    forks = True

    def __init__(
        self,
        network: torch.nn.Module,
        name: str,
        elements: Sequence[int],
        about: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.network = network.eval()
        self.dtype = next(network.parameters()).dtype
        self.elements = np.asarray(elements)
        weights = sorted(network.state_dict().items())
        trained = {key for key, _ in network.named_parameters()}
        for key, w in weights:  # a constant may well be infinite, such as a mask
            if not (w.isfinite() if key in trained else ~w.isnan()).all():
                raise InputError(f"{name}: its weights {key} are not all finite numbers.")
        self.fingerprint = identity(about, ((key, w.cpu().numpy()) for key, w in weights))

    @cached_property
    def widths(self) -> dict[str, int]:
        """Number of features of each layer, as three atoms have them."""
        three = Atoms(self.elements[:1].repeat(3), [(0, 0, 0), (0, 0, 1.2), (0, 1.2, 0)])
        return {layer: x.shape[1] for layer, x in self.features([self.prepare(three)]).items()}

    def prepare(self, atoms: Atoms) -> Any:
        """The family's own graph of the geometry, whatever else is in `atoms`.

        Positions in single precision lose digits far from the origin: atoms that are more than two
        cells away come back by lattice vectors, and what is not periodic comes near as a whole.
        All others keep every bit.

        Raises
        ------
        Unsupported
            Names the elements that the network does not know.
        """
        unknown = ~np.isin(atoms.numbers, self.elements)
        if unknown.any():
            symbols = ", ".join(sorted(set(atoms.symbols[unknown])))
            raise Unsupported(f"{self.name} does not know the element(s) {symbols}")
        cell, inverse = spanned(atoms)
        along, step = atoms.positions @ inverse, np.where(atoms.pbc, 2, 30)  # cells, or angstrom
        away = np.trunc(np.where(atoms.pbc, along, along.mean(axis=0)) / step) * step
        positions = atoms.positions - away @ cell
        return self.graph(Atoms(atoms.numbers, positions, cell=atoms.cell, pbc=atoms.pbc))

    def size(self, graph: Any) -> int:
        """Directed edges."""
        return graph.edge_index.shape[1]


def identity(about: Mapping[str, Any], weights: Iterable[tuple[str, np.ndarray]] = ()) -> str:
    """SHA-256 over whatever decides about a model's features, and the `VERSION` of this code.

    Parameters
    ----------
    about
        Plain values that JSON can hold: hyperparameters, or names and the SHA-256 of files.
    weights
        Arrays by name.

    Examples
    --------
    >>> one, other = (identity({"cutoff": r}, [("w", np.ones(2))]) for r in (5.0, 6.0))
    >>> len(one), one == other
    (64, False)
    """
    digest = hashlib.sha256(json.dumps([VERSION, about], sort_keys=True).encode())
    for name, array in weights:
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def numbered(layers: Iterable) -> dict[str, Any]:
    """Layers by the names ``interaction-1``, ``interaction-2`` and so on."""
    return {f"interaction-{i}": layer for i, layer in enumerate(layers, start=1)}


def periodic(atoms: Atoms, vacuum: float) -> Atoms:
    """The atoms in a cell that is periodic all around.

    Directions that were not get the extent of the atoms plus `vacuum` in angstrom.
    """
    cell = atoms.cell.complete().array.copy()
    extent = np.ptp(atoms.positions, axis=0).max() + vacuum
    for axis in np.flatnonzero(~atoms.pbc):
        height = np.abs(np.linalg.det(cell)) / np.linalg.norm(
            np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
        )
        cell[axis] *= max(1.0, 2 * extent / height)
    return Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=True)


@contextmanager
def recorded(
    inputs: Mapping[str, torch.nn.Module], outputs: Mapping[str, torch.nn.Module]
) -> Iterator[dict[str, torch.Tensor]]:
    """Tensors that go into some modules and come out of others in the enclosed forward pass.

    Nothing is kept there for a gradient.

    Parameters
    ----------
    inputs, outputs
        Modules, each by the name that its first input, or its output, gets.
    """
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad(), ExitStack() as hooks:
        for modules, is_output in ((inputs, False), (outputs, True)):
            for name, module in modules.items():

                def keep(module, args, output, name=name, is_output=is_output) -> None:
                    found[name] = output if is_output else args[0]

                hooks.enter_context(module.register_forward_hook(keep))
        yield found


def estimated_edges(atoms: Atoms, cutoff: float) -> int:
    """Directed edges that atoms spread evenly over the cell would have."""
    sphere = 4 / 3 * np.pi * cutoff**3
    return int(len(atoms) * max(len(atoms) * sphere / max(atoms.cell.volume, sphere), 1))
