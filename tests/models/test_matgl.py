"""TensorNet and M3GNet of matgl: in each of its two environments, what its code can run."""

import copy
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from umlip_latents import list_models
from umlip_latents.models.base import recorded
from umlip_latents.resources import fetch

from . import checks

if not find_spec("matgl"):  # not imported: our module tells it first which code to use
    reason = "needs the environment `matgl` or `matgl-dgl` (matgl)"
    pytest.skip(reason, allow_module_level=True)

from umlip_latents.models.matgl import BACKEND, MatglModel  # first: it chooses matgl's code
from umlip_latents.models.tensornet import TensorNetModel

# isort: split
import matgl
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

# of `checks.CRYSTALS` in angstrom, measured once by the library's own energies
LATTICE_CONSTANTS = {
    "tensornet-matpes-pbe": (5.702, 5.475, 3.624, 4.255),
    "tensornet-matpes-r2scan": (5.581, 5.419, 3.572, 4.200),
    "tensornet-matpes-pbe-dgl": (5.678, 5.464, 3.635, 4.260),
    "tensornet-matpes-r2scan-dgl": (5.591, 5.415, 3.575, 4.205),
    "m3gnet-mp-2021": (5.691, 5.460, 3.618, 4.261),
    "m3gnet-matpes-pbe": (5.699, 5.340, 3.634, 4.262),
    "m3gnet-matpes-r2scan": (5.591, 5.378, 3.570, 4.194),
}


@pytest.fixture(scope="module", params=[*KINDS, *ENTRIES])
def model(request) -> MatglModel:
    """A small network with random weights, or one of the catalogue if its files can be had."""
    if request.param in KINDS:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return KINDS[request.param]()
    return checks.at_hand(request.param)


@pytest.fixture(scope="module")
def published(model) -> MatglModel:
    """The same, published ones alone."""
    if model.name not in PUBLISHED:
        pytest.skip("of published networks only")
    return model


@pytest.fixture(scope="module")
def potential(published) -> Potential:
    """The library's own potential, which adds scale and references."""
    entry = ENTRIES[published.name]
    arguments, weights = (
        torch.load(
            fetch(part["file"], part["url"], part["sha256"]), map_location="cpu", weights_only=True
        )
        for part in (entry["arguments"], entry)
    )
    arguments["model"] = type(published.network)(**arguments["model"]["init_args"])
    made = Potential(**arguments)
    made.load_state_dict(weights)
    return made


class TestAdapter(checks.AdapterSuite):
    def test_a_lone_atom_beside_a_crystal(self, model):
        checks.check_widths(model, [Atoms("H"), bulk("Cu")])

    def test_pairs_of_atoms_in_a_batch(self, model):
        """Their bonds are part of no triple, which matgl's own line graph does not foresee."""
        checks.check_batch(model, [molecule("H2"), *checks.specimens(), molecule("N2")])

    def test_widths_and_parameters(self, model):
        width = model.widths["backbone"]
        entry = ENTRIES.get(model.name, {"widths": {"backbone": width, "last": 32}})
        assert {layer: model.widths[layer] for layer in ("backbone", "last")} == entry["widths"]
        count = sum(p.numel() for p in model.network.parameters())
        assert count == entry.get("parameters", count)


def energies(model: MatglModel, structures: list[Atoms]) -> np.ndarray:
    """(n_atoms,) what the two final linear maps make of the last layer, times one another."""
    last = torch.from_numpy(checks.latents(model, structures)["last"])
    readout = model.network.final_layer.gated
    value, gate = last.chunk(2, dim=1)
    with torch.no_grad():
        return (readout.layers[-1](value) * readout.gates[-2:](gate))[:, 0].numpy()


def test_last_layer_gives_the_atomic_energies(model):
    structures = checks.specimens()
    with recorded({}, {"energies": model.network.final_layer}) as found:
        model.network(**model.joined([model.prepare(a) for a in structures]))
    theirs = found["energies"][:, 0].numpy()
    assert np.ptp(theirs) > 1e-3
    assert energies(model, structures) == pytest.approx(theirs, abs=1e-5)


def total(model: MatglModel, potential: Potential, atoms: Atoms) -> float:
    """Energy of a structure in eV/atom by hand."""
    references = potential.element_refs.property_offset.numpy()
    elements = [model.network.element_types.index(symbol) for symbol in atoms.symbols]
    mine = energies(model, [atoms]) * potential.data_std.item() + references[elements]
    return float(mine.mean())


def test_energies_are_those_of_the_library_s_calculator(published, potential, crystals):
    """M3GNet's to what its mistaken bonds make."""
    calculator = PESCalculator(potential)
    tolerance = 1e-4 if isinstance(published, TensorNetModel) else 3e-4
    for atoms in crystals:
        theirs = calculator.get_potential_energy(atoms) / len(atoms)
        assert total(published, potential, atoms) == pytest.approx(theirs, abs=tolerance)


def test_lattice_constants(published):
    """Scale and references of the library shift no minimum."""
    expected = LATTICE_CONSTANTS[published.name]
    checks.check_lattice_constants(lambda cells: energies(published, cells), expected)


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


def test_precision(model, monkeypatch):
    double = type(model)(copy.deepcopy(model.network).double(), "double")

    def features(graphs):
        with monkeypatch.context() as patch:
            patch.setattr(matgl, "float_th", torch.float64)  # what M3GNet casts to on its way
            return type(model).features(double, graphs)

    double.features = features
    checks.check_precision(model, double, checks.specimens())


def test_untrained_weights_follow_their_seed(model):
    before = torch.random.get_rng_state()
    one, same, other = (model.untrained(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    for key, weight in model.network.named_parameters():
        if weight.ndim > 1:
            assert not torch.equal(one[key], other[key]), key
            assert not torch.equal(one[key], weight), key
