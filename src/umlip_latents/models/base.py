"""The interface of a model, and what the families share."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import safetensors.torch
import torch
from ase import Atoms
from threadpoolctl import threadpool_limits

from ..resources import InputError, check_sha256, write_file
from ..structures.checks import cell_and_inverse

LAYERS = ("backbone", "last")  # every model has these, some also interaction-1, interaction-2, ...
# hydrogen to bismuth, actinium to plutonium: those of MPtrj, Alexandria and OMat24
MATERIALS_ELEMENTS = np.r_[1:84, 89:95]
# Of the code of all adapters. Raise it when the features that any of them gives change: those that
# are stored of an older version are computed anew.
VERSION = 2


class Unsupported(ValueError):
    """A model refuses one structure; the message says why, the structure is left out."""


class Readout(NamedTuple):
    """How the energy of an atom follows from its last layer, without the energy of its element.

    Attributes
    ----------
    weights
        (width, 1) in eV; (width, 2) where a value is multiplied by the sigmoid of a gate.
    biases
        (1,) or (2,).
    """

    weights: np.ndarray
    biases: np.ndarray

    def energies(self, last: np.ndarray) -> np.ndarray:
        """(n_atoms,) in eV, of last layers (n_atoms, width)."""
        value, *gate = (last @ self.weights + self.biases).T
        return value / (1 + np.exp(-gate[0])) if gate else value


class LatentModel(Protocol):
    """A uMLIP seen as a map from structures to per-atom latent features.

    Attributes
    ----------
    name
        The name shown in tables and figures.
    fingerprint
        Its `identity`, so that stored features are never mistaken for another model's; empty if
        it has none, and then its features are never stored.
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

    def features(self, graphs: list[Any]) -> dict[str, np.ndarray]:
        """Features of every layer, (n_atoms, width) each, atoms in the order of the graphs."""


class GraphAdapter:
    """From structures to graphs, as all families do. Each adds `graph`, and `features` of these."""

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
        cell, inverse = cell_and_inverse(atoms)
        along, step = atoms.positions @ inverse, np.where(atoms.pbc, 2, 30)  # cells, or angstrom
        away = np.trunc(np.where(atoms.pbc, along, along.mean(axis=0)) / step) * step
        positions = atoms.positions - away @ cell
        return self.graph(Atoms(atoms.numbers, positions, cell=atoms.cell, pbc=atoms.pbc))

    def size(self, graph: Any) -> int:
        """Directed edges."""
        return graph.edge_index.shape[1]

    def energy_readout(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and biases of the model's `Readout`; raises `InputError` where none is known."""
        raise InputError(f"{self.name}: how its energy follows from its last layer is not known.")


class Activation(NamedTuple):
    """The features (n_atoms, width) that `select` takes from a module's first input or output."""

    module: torch.nn.Module
    select: Callable[[Any], torch.Tensor] = torch.nn.Identity()
    of_output: bool = False


class Adapter(GraphAdapter):
    """A network of PyTorch. Each family adds `graph`, `layers`, and `run` of a list of graphs.

    Attributes
    ----------
    device, dtype
        Of the weights; graphs are made on the processor and moved there batch by batch.
    layers
        The list of `Activation` of each layer, which is these side by side.

    Parameters
    ----------
    network
        The library's network, which is put into evaluation mode.
    name, elements
        Name shown in tables, and atomic numbers that it knows.
    about
        Whatever else decides about its features, hyperparameters above all, as plain values.
    """

    def __init__(
        self, network: torch.nn.Module, name: str, elements: Sequence[int], about: Mapping[str, Any]
    ) -> None:
        self.name, self.network, self.elements = name, network.eval(), np.asarray(elements)
        first = next(network.parameters())
        self.dtype, self.device = first.dtype, first.device
        weights = sorted(network.state_dict().items())
        self.fingerprint = identity(about, ((key, w.cpu().numpy()) for key, w in weights))

    def to(self, device: torch.device | str) -> "Adapter":
        """Move the network to a device of PyTorch; returns the model itself."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def forward(self, graphs: list[Any]) -> dict[str, torch.Tensor]:
        """The activations of every layer in one forward pass, without what a gradient needs."""
        found: dict[Activation, torch.Tensor] = {}

        def keep(part: Activation, module: torch.nn.Module, args: tuple, output: Any) -> None:
            found[part] = part.select(output if part.of_output else args[0])

        with torch.no_grad(), ExitStack() as hooks:
            for part in {*chain(*self.layers.values())}:
                hooks.enter_context(part.module.register_forward_hook(partial(keep, part)))
            self.run(graphs)
        layers = self.layers.items()
        return {name: torch.cat([found[part] for part in parts], dim=1) for name, parts in layers}

    def features(self, graphs: list[Any]) -> dict[str, np.ndarray]:
        """Features of every layer, (n_atoms, width) each, of one forward pass on `device`."""
        return {layer: x.cpu().numpy() for layer, x in self.forward(graphs).items()}


class TrainableAdapter(Adapter):
    """A network that can be fine-tuned and saved.

    Each family adds `architecture` in plain values, and `build`, which makes a network of it.
    """

    head: str | None = None  # the one that reads the energy, if it has any

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same architecture with freshly drawn weights."""
        return self.build(self.architecture, seed)

    @classmethod
    def restore(cls, path: Path) -> torch.nn.Module:
        """The network that `save` wrote."""
        network = cls.build(read_card(path)["architecture"])
        network.load_state_dict(safetensors.torch.load_file(path))
        return network

    def save(self, path: str | Path, **about: Any) -> Path:
        """Write the weights and a JSON card beside them, for `load_model`; return their path.

        Next to `about` stand ``family``, ``head``, ``parameters``, ``widths``, the ``sha256`` of
        the weights and the ``architecture``. The card comes first: weights never lack it. The
        ending of `path`, ``.safetensors``, is added if need be.
        """
        path = Path(f"{str(path).removesuffix('.safetensors')}.safetensors")
        state = self.network.state_dict().items()
        weights = safetensors.torch.save({key: w.cpu().contiguous() for key, w in state})
        card = about | {
            "family": type(self).__module__.rpartition(".")[2],
            "head": self.head,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "widths": {layer: self.widths[layer] for layer in LAYERS},
            "sha256": hashlib.sha256(weights).hexdigest(),
            "architecture": self.architecture,
        }
        write_file(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
        write_file(path, weights)
        return path


def read_card(path: Path) -> dict[str, Any]:
    """The JSON card beside weights that `TrainableAdapter.save` wrote; raises `InputError`."""
    file = path.with_suffix(".json")
    if not file.is_file():
        how = "load_model(FILE, trust=True).save(NEW) makes both of a file of mace-torch or CHGNet"
        raise InputError(f"{path}: its JSON card {file.name} is missing; {how}.")
    card = json.loads(file.read_text(encoding="utf-8"))
    check_sha256(path, card["sha256"], f"its card {file.name} says")
    return card


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
    >>> identity({"cutoff": 5.0}) == identity({"cutoff": 6.0})
    False
    """
    digest = hashlib.sha256(json.dumps([VERSION, about], sort_keys=True).encode())
    for name, array in weights:
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def interaction_names(layers: Iterable) -> dict[str, Any]:
    """Layers by the names ``interaction-1``, ``interaction-2`` and so on."""
    return {f"interaction-{i}": layer for i, layer in enumerate(layers, start=1)}


def periodic(atoms: Atoms, vacuum: float) -> Atoms:
    """The atoms in a cell that is periodic all around.

    Directions that were not get the extent of the atoms plus `vacuum` in angstrom.
    """
    cell = atoms.cell.complete().array
    extent = np.ptp(atoms.positions, axis=0).max() + vacuum
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    stretch = np.where(atoms.pbc, 1, np.maximum(1, 2 * extent / heights))
    return Atoms(atoms.numbers, atoms.positions, cell=cell * stretch[:, None], pbc=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw PyTorch's random numbers from a seed; afterwards they go on as if nothing had been."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def estimated_edges(atoms: Atoms, cutoff: float) -> int:
    """Directed edges that atoms spread evenly over the cell would have."""
    sphere = 4 / 3 * np.pi * cutoff**3
    return int(len(atoms) * max(len(atoms) * sphere / max(atoms.cell.volume, sphere), 1))


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch and BLAS compute on one thread inside, and on as many as before after it.

    Threads that share one small factorisation gain a quarter at best, and beside other work they
    wait for each other for most of the time.
    """
    with threadpool_limits(1):
        yield
