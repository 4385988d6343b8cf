"""Nequix: even scalars after the last gated layer, which are what its linear readout takes.

JAX compiles the network anew for every shape of its input. A batch is therefore padded to one of a
few shapes, with atoms that nothing but padding is bonded to. JAX also chooses its device itself.
"""

import inspect
from functools import partial

import equinox as eqx
import jax
import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from nequix.model import Nequix, load_model

from .base import MATERIALS_ELEMENTS, GraphAdapter, identity, interaction_names, periodic

# Of a padded batch. A shape more costs seconds to compile, padding a third of a second at most: the
# usual batch of 6,000 edges has one, and so has what is left over at the end of a block.
EDGES_PER_NODE, USUAL = 8, 6_144
# A structure, as `Nequix.node_energies` takes it: (n_edges, 3) vectors from receiver to sender in
# angstrom, (n_atoms,) positions of the elements in the network's list, senders and receivers.
Graph = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class NequixModel(GraphAdapter):
    """Latent features of a Nequix, on the energy path only.

    Parameters
    ----------
    network
        A network for the elements of its `config`, or for `MATERIALS_ELEMENTS`.
    name
        Name shown in tables.
    config
        What the network was built from, for `untrained`.
    """

    def __init__(self, network: Nequix, name: str, config: dict | None = None) -> None:
        self.network, self.name, self.config = network, name, config or {}
        self.elements = np.sort(self.config.get("atomic_numbers", MATERIALS_ELEMENTS))
        leaves = enumerate(map(np.asarray, jax.tree.leaves(network)))
        self.fingerprint = identity({**self.config, "cutoff": network.cutoff}, leaves)

    def untrained(self, seed: int) -> Nequix:
        """A network of the same architecture with freshly drawn weights."""
        own = inspect.signature(Nequix).parameters.keys() - {"atom_energies", "kernel"}
        settings = {key: value for key, value in self.config.items() if key in own}
        return Nequix(jax.random.key(seed), len(self.elements), **settings)

    def energy_readout(self) -> tuple[np.ndarray, np.ndarray]:
        """One map, rescaled and shifted."""
        (weights,) = jax.tree.leaves(self.network.readout)
        scale = self.network.scale / np.size(weights) ** 0.5  # as in e3nn
        return scale * np.reshape(weights, (-1, 1)), np.array([self.network.shift])

    def graph(self, atoms: Atoms) -> Graph:
        """Neighbours as Nequix finds them, with vacuum where the structure is not periodic."""
        boxed = periodic(atoms, 2 * self.network.cutoff)
        receivers, senders, vectors = neighbour_list("ijD", boxed, self.network.cutoff)
        species = np.searchsorted(self.elements, atoms.numbers)
        return vectors, species, senders, receivers

    def size(self, graph: Graph) -> int:
        """Directed edges."""
        return len(graph[0])

    def features(self, graphs: list[Graph]) -> dict[str, np.ndarray]:
        """Even scalars of every layer of one forward pass."""
        n_atoms = [len(species) for _, species, _, _ in graphs]
        vectors, species, senders, receivers = map(np.concatenate, zip(*graphs, strict=True))
        starts = np.repeat(np.cumsum([0, *n_atoms[:-1]]), [self.size(graph) for graph in graphs])
        n_edges = padded(len(vectors))
        n_nodes = max(n_edges, padded(EDGES_PER_NODE * (len(species) + 1))) // EDGES_PER_NODE
        edges, nodes = (0, n_edges - len(vectors)), (0, n_nodes - len(species))
        found = scalars(
            self.network,
            np.pad(vectors, [edges, (0, 0)]).astype(self.network.atom_energies.dtype),
            np.pad(species, nodes),
            np.pad(senders + starts, edges, constant_values=n_nodes - 1),
            np.pad(receivers + starts, edges, constant_values=n_nodes - 1),
        )
        layers = [np.asarray(layer)[: len(species)] for layer in found]
        return {"backbone": layers[-1], "last": layers[-1], **interaction_names(layers)}


def padded(n: int) -> int:
    """The next of 6, 8, 12, 16, ... times 1,024."""
    power = 1 << max(n - 1, USUAL - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 else power


@eqx.filter_jit
def scalars(network: Nequix, *graph: jax.Array) -> list[jax.Array]:
    """The even scalars that come out of each layer while the library computes atomic energies."""
    outputs = []

    def forward(layer, *inputs):
        outputs.append(layer(*inputs))
        return outputs[-1]

    layers = [partial(forward, layer) for layer in network.layers]
    eqx.tree_at(lambda whole: whole.layers, network, layers).node_energies(*graph)
    return [output.filter("0e").array for output in outputs]


def load(name: str, entry: dict) -> NequixModel:
    """A published checkpoint: a line of JSON, then NumPy arrays without pickle."""
    network, config = load_model(entry["path"])
    return NequixModel(network, name, config)
