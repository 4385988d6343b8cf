"""TensorNet and M3GNet of matgl: in each of its two environments, what its code can run."""

from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms

from umlip_latents import list_models
from umlip_latents.models.base import capture_activations
from umlip_latents.models.matgl import BACKEND, MatglModel  # first: it chooses matgl's code
from umlip_latents.models.tensornet import TensorNetModel
from umlip_latents.resources import fetch

from . import checks

# isort: split
from matgl.apps.pes import Potential
from matgl.ext.ase import PESCalculator
from matgl.models import TensorNet

ENVIRONMENT = {"DGL": "matgl-dgl", "PYG": "matgl"}[BACKEND]
ENTRIES = {n: e for n, e in list_models().items() if e.get("environment") == ENVIRONMENT}
PUBLISHED = [name for name, entry in ENTRIES.items() if "like" not in entry]
SMALL = {"is_intensive": False, "rbf_type": "SphericalBessel", "use_smooth": True}
KINDS = {"tiny-tensornet": lambda: TensorNetModel(TensorNet(units=16, **SMALL), "tiny-tensornet")}
if BACKEND == "DGL":
    from matgl.models import M3GNet

    from umlip_latents.models.m3gnet import M3GNetModel

    KINDS["tiny-m3gnet"] = lambda: M3GNetModel(M3GNet(units=16, **SMALL), "tiny-m3gnet")


@cache
def load(name: str) -> MatglModel:
    """A small network with random weights, or one of the catalogue if its files can be had."""
    if name not in KINDS:
        return checks.at_hand(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KINDS[name]()


@pytest.fixture(scope="module", params=[*KINDS, *ENTRIES])
def model(request) -> MatglModel:
    return load(request.param)


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request) -> MatglModel:
    return load(request.param)


@pytest.fixture(scope="module")
def potential(published) -> Potential:
    """The library's own potential, which adds scale and references."""
    entry = ENTRIES[published.name]
    arguments, weights = (
        torch.load(fetch(part["file"], part["url"], part["sha256"]), "cpu", weights_only=True)
        for part in (entry["arguments"], entry)
    )
    arguments["model"] = type(published.network)(**arguments["model"]["init_args"])
    built = Potential(**arguments)
    built.load_state_dict(weights)
    return built


class TestAdapter(checks.AdapterSuite):
    takes_device = BACKEND == "PYG"  # DGL has no device `meta` to try it on


def test_parameters_are_those_of_the_catalogue(published):
    count = sum(p.numel() for p in published.network.parameters())
    assert count == ENTRIES[published.name]["parameters"]


def energies(model: MatglModel, structures: list[Atoms]) -> np.ndarray:
    """(n_atoms,) what the two final linear maps make of the last layer, times one another."""
    last = torch.from_numpy(checks.latents(model, structures)["last"])
    readout = model.network.final_layer.gated
    value, gate = last.chunk(2, dim=1)
    with torch.no_grad():
        return (readout.layers[-1](value) * readout.gates[-2:](gate))[:, 0].numpy()


def test_last_layer_gives_the_atomic_energies(model):
    structures = checks.specimens()
    with capture_activations({}, {"energies": model.network.final_layer}) as found:
        model.network(**model.batch([model.prepare(a) for a in structures]))
    theirs = found["energies"][:, 0].numpy()
    assert np.ptp(theirs) > 1e-3
    assert energies(model, structures) == pytest.approx(theirs, abs=1e-5)


def test_energies_are_those_of_the_library_s_calculator(published, potential, crystals):
    """M3GNet's to what its mistaken bonds make."""
    calculator, references = PESCalculator(potential), potential.element_refs.property_offset
    tolerance = 1e-4 if isinstance(published, TensorNetModel) else 3e-4
    for atoms in crystals:
        elements = [published.network.element_types.index(symbol) for symbol in atoms.symbols]
        mine = energies(published, [atoms]) * potential.data_std.item()
        mine = (mine + references.numpy()[elements]).mean()
        theirs = calculator.get_potential_energy(atoms) / len(atoms)
        assert mine == pytest.approx(theirs, abs=tolerance)


def test_further_layers_are_the_interactions(model):
    found = checks.latents(model, checks.specimens())
    last = torch.from_numpy(found[f"interaction-{len(model.outputs)}"])
    assert len(model.outputs) >= 2
    with torch.no_grad():
        if isinstance(model, TensorNetModel):
            last = model.network.linear(model.network.out_norm(last))
    assert found["backbone"] == pytest.approx(last.numpy(), abs=1e-5)


def test_messages_pass_unless_it_is_tensornet_in_the_dgl_code(model):
    """In a chain with bonds of 2.6 angstrom, does the first atom see that the third one moves?"""
    chain = Atoms("C3", [(0, 0, 0), (2.6, 0, 0), (5.2, 0, 0)])
    moved = Atoms("C3", [(0, 0, 0), (2.6, 0, 0), (5.2, 1, 0)])
    one, other = (checks.latents(model, [a])["backbone"] for a in (chain, moved))
    unmoved = np.abs(one - other)[0].max() < 1e-6 * np.abs(one).max()
    assert unmoved == (isinstance(model, TensorNetModel) and BACKEND == "DGL")


def test_untrained_weights_follow_their_seed(model):
    before = torch.random.get_rng_state()
    one, same, other = (model.untrained(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    for key, weight in model.network.named_parameters():
        if weight.ndim > 1:
            assert not torch.equal(one[key], other[key]), key
            assert not torch.equal(one[key], weight), key
