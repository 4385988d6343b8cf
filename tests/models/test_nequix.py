"""Nequix: the published checkpoints, and a small network that needs no file."""

from functools import cache

import equinox as eqx
import jax
import numpy as np
import pytest
from ase import Atoms
from nequix.data import atomic_numbers_to_indices, preprocess_graph
from nequix.model import Nequix, save_model

from umlip_latents import list_models, load_model
from umlip_latents.models import nequix
from umlip_latents.models.base import LAYERS, MATERIALS_ELEMENTS, Unsupported
from umlip_latents.models.nequix import NequixModel

from . import checks
from .checks import deviation, energies, latents, specimens

SMALL = {
    "hidden_irreps": "16x0e + 8x1o + 4x2e",
    "lmax": 2,
    "n_layers": 3,
    "radial_polynomial_p": 6.0,
    "index_weights": False,
    "avg_n_neighbors": 30.0,
    "layer_norm": True,
}
NAMES = [name for name, entry in list_models().items() if entry["family"] == "Nequix"]
published = pytest.mark.parametrize("name", [n for n in NAMES if "untrained" not in n])


@cache
def checkpoint(name: str) -> NequixModel:
    """A published model."""
    return checks.at_hand(name)


@cache
def small() -> NequixModel:
    """A network with random weights."""
    network = Nequix(jax.random.key(1), len(MATERIALS_ELEMENTS), **SMALL)
    return NequixModel(network, "small", SMALL)


@pytest.fixture(scope="module", params=["small", "nequix-mp-1"])
def model(request) -> NequixModel:
    return small() if request.param == "small" else checkpoint(request.param)


class TestAdapter(checks.AdapterSuite):
    takes_device = False
    unknown = ("Po", "Og")

    def test_layers(self, model):
        found = latents(model, specimens())
        interactions = [f"interaction-{i}" for i in range(1, len(model.network.layers) + 1)]
        assert list(found) == list(model.widths) == [*LAYERS, *interactions]
        for layer in LAYERS:
            assert np.array_equal(found[layer], found[interactions[-1]])
        assert deviation(found["interaction-1"], found["interaction-2"]) > 0.1

    def test_padding_changes_nothing(self, model, monkeypatch):
        padded_there = latents(model, specimens())
        monkeypatch.setattr(nequix, "padded", lambda n: n)
        for layer, expected in latents(model, specimens()).items():
            assert deviation(padded_there[layer], expected) < 1e-5


@eqx.filter_jit
def library_energies(network: Nequix, *graph: jax.Array) -> jax.Array:
    """(n_atoms, 1) in eV."""
    return network.node_energies(*graph)


@published
def test_last_layer_gives_the_atomic_energies(name):
    """With the library's own graph of a crystal."""
    model, atoms = checkpoint(name), specimens()[0]
    indices = atomic_numbers_to_indices(model.config["atomic_numbers"])
    graph = preprocess_graph(atoms, indices, model.network.cutoff, targets=False)
    senders, receivers = graph["senders"], graph["receivers"]
    vectors = graph["positions"][senders] - graph["positions"][receivers]
    vectors += graph["shifts"] @ graph["cell"]
    theirs = library_energies(model.network, vectors, graph["species"], senders, receivers)
    theirs = np.ravel(theirs) - np.asarray(model.network.atom_energies)[graph["species"]]
    assert energies(model, [atoms]) == pytest.approx(theirs, abs=1e-4)


def test_untrained_twins_follow_their_seed():
    twins = (jax.tree.leaves(small().untrained(seed).layers) for seed in (0, 0, 1))
    for one, same, other in zip(*twins, strict=True):
        assert np.array_equal(one, same)
        if one.ndim == 2:  # the scales of the norms begin at one
            assert deviation(other, one) > 0.1


def test_a_file_of_ones_own_knows_its_own_elements(tmp_path):
    own = {"cutoff": 5.0, "radial_basis_size": 4, "radial_mlp_size": 8, "radial_mlp_layers": 1}
    own |= {"mlp_init_scale": 4.0, "shift": 0.0, "scale": 1.0}
    network = Nequix(jax.random.key(2), 3, **SMALL | own)
    save_model(tmp_path / "mine.nqx", network, SMALL | own | {"atomic_numbers": [1, 29, 8]})
    model = load_model(tmp_path / "mine.nqx")
    assert (model.name, model.elements.tolist()) == ("mine", [1, 8, 29])
    with pytest.raises(Unsupported, match=r"does not know the element\(s\) Al"):
        model.prepare(Atoms("Al"))
    here = NequixModel(network, "here", SMALL | own | {"atomic_numbers": [1, 8, 29]})
    for layer, expected in latents(here, specimens()[2:3]).items():
        assert np.array_equal(latents(model, specimens()[2:3])[layer], expected)
