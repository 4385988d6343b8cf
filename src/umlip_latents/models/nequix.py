"""Nequix: even scalars after the last gated layer, which are what its linear readout takes.

JAX compiles the network anew for every shape of its input. A batch is therefore padded to one of a
few shapes, with atoms that nothing but padding is bonded to. The messages are summed by code of our
own, in the place that the library has for a kernel, in half of the time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from itertools import product
from typing import NamedTuple

import e3nn_jax as e3nn
import equinox as eqx
import jax
import numpy as np
from ase import Atoms
from jax import numpy as jnp
from matscipy.neighbours import neighbour_list
from nequix.model import Nequix, NequixConvolution, load_model

from .base import MATERIALS_ELEMENTS, Adapter, identity, numbered, periodic

# Of a padded batch. A shape more costs seconds to compile, padding a third of a second at most: the
# usual batch of 6,000 edges has one, and so has what is left over at the end of a block.
EDGES_PER_NODE, USUAL = 8, 6_144
# whose messages are made together: those of more do not fit the processor's cache
TOGETHER = 256


class Graph(NamedTuple):
    """A structure as `Nequix.node_energies` takes it.

    Attributes
    ----------
    vectors
        (n_edges, 3) from receiver to sender in angstrom.
    species
        (n_atoms,) positions of the elements in the network's list.
    senders, receivers
        (n_edges,) atoms.
    """

    vectors: np.ndarray
    species: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray


class NequixModel(Adapter):
    """Latent features of a Nequix, on the energy path only.

    Parameters
    ----------
    network
        A network for `MATERIALS_ELEMENTS`, as all that are published.
    name
        Name shown in tables.
    config
        What the network was built from, for `untrained`.
    """

    forks = False  # JAX uses all cores by itself

    def __init__(self, network: Nequix, name: str, config: dict | None = None) -> None:
        self.network, self.name, self.config = network, name, config or {}
        self.elements = MATERIALS_ELEMENTS
        leaves = enumerate(map(np.asarray, jax.tree.leaves(network)))
        self.fingerprint = identity({**self.config, "cutoff": network.cutoff}, leaves)

    @cached_property
    def widths(self) -> dict[str, int]:
        """Number of features of each layer, for which no network has to be compiled."""
        layers = [layer.output_irreps.filter("0e").dim for layer in self.network.layers]
        return {"backbone": layers[-1], "last": layers[-1], **numbered(layers)}

    def untrained(self, seed: int) -> Nequix:
        """A network of the same architecture with freshly drawn weights."""
        own = inspect.signature(Nequix).parameters.keys() - {"atom_energies", "kernel"}
        settings = {key: value for key, value in self.config.items() if key in own}
        return Nequix(jax.random.key(seed), len(self.elements), **settings)

    def graph(self, atoms: Atoms) -> Graph:
        """Neighbours as Nequix finds them, with vacuum where the structure is not periodic."""
        boxed = periodic(atoms, 2 * self.network.cutoff)
        receivers, senders, vectors = neighbour_list("ijD", boxed, self.network.cutoff)
        species = np.searchsorted(self.elements, atoms.numbers)
        return Graph(vectors, species, senders, receivers)

    def size(self, graph: Graph) -> int:
        """Directed edges."""
        return len(graph.senders)

    def features(self, graphs: Sequence[Graph]) -> dict[str, np.ndarray]:
        """Even scalars of every layer of one forward pass."""
        n_atoms = [len(graph.species) for graph in graphs]
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
        return {"backbone": layers[-1], "last": layers[-1], **numbered(layers)}


def padded(n: int) -> int:
    """The next of 6, 8, 12, 16, ... times 1,024."""
    power = 1 << max(n - 1, USUAL - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 else power


class Messages(NamedTuple):
    r"""Sums of the messages that each atom receives, for which the library has a kernel on GPUs.

    With the spherical harmonics Y of an edge, Clebsch-Gordan coefficients C and a weight w for each
    path, :math:`m_{uk} = w_u \sum_{ij} x_{ui} Y_j C_{ijk}`. The library's own way without a kernel
    calls for a product of matrices for each edge and path, of some hundred numbers each, and writes
    all messages to memory.

    Attributes
    ----------
    sent, harmonics, summed
        Irreps of what is sent, of Y, and of the messages, path by path.
    """

    sent: e3nn.Irreps
    harmonics: e3nn.Irreps
    summed: e3nn.Irreps

    def forward(self, x: jax.Array, *edges: jax.Array) -> jax.Array:
        """(n_atoms, width) of what is sent, and Y, weights, receivers and senders of the edges."""
        missing = -len(edges[0]) % TOGETHER
        nobody = 0, 0, len(x), 0  # receives what is padding
        blocks = [
            jnp.pad(edge, [(0, missing), *[(0, 0)] * (edge.ndim - 1)], constant_values=value)
            for edge, value in zip(edges, nobody, strict=True)
        ]
        blocks = [block.reshape(-1, TOGETHER, *block.shape[1:]) for block in blocks]

        def add(total: jax.Array, block: Sequence[jax.Array]) -> tuple[jax.Array, None]:
            harmonics, weights, receivers, senders = block
            messages = jnp.concatenate([*self.paths(x[senders], harmonics, weights)], axis=1)
            return total.at[receivers].add(messages), None

        return jax.lax.scan(add, jnp.zeros((len(x), self.summed.dim), x.dtype), blocks)[0]

    def paths(self, x: jax.Array, harmonics: jax.Array, weights: jax.Array) -> Iterator[jax.Array]:
        """(n_edges, width) messages of each path."""
        inputs = zip(self.sent, self.sent.slices(), strict=True)
        others = zip(self.harmonics, self.harmonics.slices(), strict=True)
        in_order = self.summed.sort()
        starts = np.cumsum([0, *(mul for mul, _ in in_order.irreps)])
        places = iter(in_order.p)
        known = {ir for _, ir in self.summed}
        for ((mul, ir), of_x), ((_, other), of_y) in product(inputs, others):
            one = x[:, of_x].reshape(-1, mul, ir.dim)
            for out in ir * other:
                if out not in known:
                    continue
                coefficients = e3nn.clebsch_gordan(ir.l, other.l, out.l) * out.dim**0.5
                turned = jnp.einsum("ej,ijk->eik", harmonics[:, of_y], coefficients.astype(x.dtype))
                # spelled out, or it would be a product of matrices for each edge
                message = sum(one[:, :, i, None] * turned[:, None, i] for i in range(ir.dim))
                start = starts[next(places)]
                yield (message * weights[:, start : start + mul, None]).reshape(len(x), -1)


class Layer(NequixConvolution):
    """The library's layer with `Messages` for its kernel."""

    def __init__(self, layer: NequixConvolution, lmax: int) -> None:
        own = Messages(layer.linear_1.irreps_out, e3nn.s2_irreps(lmax), layer.tp_irreps)
        for field in fields(layer):
            setattr(self, field.name, getattr(layer, field.name))
        self.kernel, self.tp_conv = True, own


@eqx.filter_jit
def scalars(network: Nequix, *graph: jax.Array) -> list[jax.Array]:
    """The even scalars that come out of each layer while the library computes atomic energies."""
    outputs = []

    def watched(layer: NequixConvolution) -> Callable:
        def forward(*inputs):
            outputs.append(layer(*inputs))
            return outputs[-1]

        return forward

    layers = [watched(Layer(layer, network.lmax)) for layer in network.layers]
    eqx.tree_at(lambda whole: whole.layers, network, layers).node_energies(*graph)
    return [output.filter("0e").array for output in outputs]


def load(name: str, entry: dict) -> NequixModel:
    """A published checkpoint: a line of JSON, then NumPy arrays without pickle."""
    network, config = load_model(entry["path"])
    return NequixModel(network, name, config)
