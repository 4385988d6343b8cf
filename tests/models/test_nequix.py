"""Nequix: the published checkpoints, and a small network that needs no file."""

from functools import cache

import numpy as np
import pytest
from ase import Atoms

from umlip_latents import list_models
from umlip_latents.models.base import LAYERS, MATERIALS_ELEMENTS

from . import checks
from .checks import deviation, latents, specimens

pytest.importorskip("nequix", reason="needs the environment `nequix` (nequix)")

import equinox as eqx
import jax
from nequix.calculator import NequixCalculator
from nequix.data import atomic_numbers_to_indices, preprocess_graph
from nequix.model import Nequix, save_model

from umlip_latents.models import nequix
from umlip_latents.models.nequix import NequixModel

SMALL = {
    "hidden_irreps": "16x0e + 8x1o + 4x2e",
    "lmax": 2,
    "n_layers": 3,
    "radial_polynomial_p": 6.0,
    "index_weights": False,
    "avg_n_neighbors": 30.0,
    "layer_norm": True,
}
# of `checks.CRYSTALS` in angstrom, measured once by the library's own energies
LATTICE_CONSTANTS = {
    "nequix-mp-1": (5.709, 5.504, 3.627, 4.257),
    "nequix-omat-1": (5.706, 5.437, 3.626, 4.258),
    "nequix-oam-1": (5.698, 5.489, 3.628, 4.256),
    "nequix-mp-1-pft": (5.714, 5.509, 3.637, 4.253),
    "nequix-mp-1-pft-nocotrain": (5.697, 5.530, 3.632, 4.254),
    "nequix-oam-1-pft": (5.701, 5.487, 3.628, 4.255),
}
published = pytest.mark.parametrize("name", LATTICE_CONSTANTS)


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

    def test_layers_are_those_of_the_library(self, model, monkeypatch):
        ours = latents(model, specimens())
        compute = nequix.scalars.__wrapped__
        monkeypatch.setattr(nequix, "scalars", eqx.filter_jit(lambda *args: compute(*args)))
        monkeypatch.setattr(nequix, "Layer", lambda layer, lmax: layer)
        for layer, theirs in latents(model, specimens()).items():
            assert deviation(ours[layer], theirs) < 1e-5
            assert not np.array_equal(ours[layer], theirs) or layer == "interaction-1"

    def test_precision(self, model):
        class InDouble(NequixModel):
            def features(self, graphs):
                with jax.enable_x64(True):
                    return super().features(graphs)

        with jax.enable_x64(True):
            network = jax.tree.map(lambda weights: weights.astype(np.float64), model.network)
        checks.check_precision(model, InDouble(network, "double"), specimens())


def test_the_padded_sizes_are_few_and_not_far():
    sizes = {n: nequix.padded(n) for n in range(1, 50_000)}
    assert len(set(sizes.values())) < 9
    assert sizes[1] == sizes[6000] == 6144
    assert all(n <= size <= max(6144, 1.5 * n) for n, size in sizes.items())


def energies(model: NequixModel, structures: list[Atoms]) -> np.ndarray:
    """(n_atoms,) in eV: the linear map of the last layer, rescaled, plus the element's energy."""
    network, last = model.network, latents(model, structures)["last"]
    (weight,) = jax.tree.leaves(network.readout)
    species = np.searchsorted(model.elements, np.concatenate([a.numbers for a in structures]))
    scaled = last @ np.ravel(weight) / np.sqrt(last.shape[1]) * network.scale  # as in e3nn
    return scaled + network.shift + np.asarray(network.atom_energies)[species]


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
    assert energies(model, [atoms]) == pytest.approx(np.ravel(theirs), abs=1e-4)


@pytest.mark.parametrize("atoms", [specimens()[3], Atoms("H")], ids=str)
def test_the_energy_is_that_of_the_calculator(atoms, tmp_path):
    model = checkpoint("nequix-mp-1")
    save_model(tmp_path / "model.nqx", model.network, model.config)
    calculator = NequixCalculator(model_path=tmp_path / "model.nqx", use_kernel=False)
    calculator.calculate(atoms)
    mine = energies(model, [atoms]).mean()
    assert mine == pytest.approx(calculator.results["energy"] / len(atoms), abs=1e-4)


@published
def test_lattice_constants(name):
    model = checkpoint(name)
    checks.check_lattice_constants(lambda cells: energies(model, cells), LATTICE_CONSTANTS[name])


@published
def test_the_catalogue_says_what_the_checkpoint_says(name):
    model, entry = checkpoint(name), list_models()[name]
    config, start = model.config, entry.get("started_from")
    assert config["atomic_numbers"] == model.elements.tolist()
    assert {layer: model.widths[layer] for layer in LAYERS} == entry["widths"]
    assert sum(leaf.size for leaf in jax.tree.leaves(model.network)) == entry["parameters"]
    assert ("finetune_from" in config) == (start is not None)
    assert start is None or start.removesuffix("-1") in config["finetune_from"]
    assert ("hessian_weight" in config) == ("Hessians" in entry["objective"])
    if start and "Hessians" in entry["objective"]:
        replayed = [data for data in entry["trained_on"] if data != "MDR phonons"]
        assert bool(config["extra_train_steps"]) == bool(replayed)


def test_untrained_twins_follow_their_seed():
    real, *twins = (
        jax.tree.leaves(checkpoint(name).network.layers)
        for name in ("nequix-mp-1", *(f"nequix-untrained-s{seed}" for seed in (0, 0, 1)))
    )
    assert [weights.shape for weights in twins[0]] == [weights.shape for weights in real]
    for one, same, other, trained in zip(*twins, real, strict=True):
        assert np.array_equal(one, same)
        if one.ndim == 2:  # the scales of the norms begin at one
            assert deviation(other, one) > 0.1
            assert deviation(trained, one) > 0.1
