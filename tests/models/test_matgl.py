"""The networks of matgl, and DIEP: in each of its two environments, what its code can run."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator

from umlip_latents import list_models, load_model
from umlip_latents.models.base import Activation, periodic
from umlip_latents.models.matgl import (  # first: it chooses matgl's code
    BACKEND,
    M3GNetModel,
    MatglModel,
    QetModel,
    TensorNetModel,
)
from umlip_latents.resources import InputError, fetch

from . import checks
from .checks import energies

# isort: split
from matgl.apps.pes import Potential
from matgl.ext.ase import PESCalculator
from matgl.models import TensorNet

ENVIRONMENT = {"DGL": "matgl-dgl", "PYG": "matgl"}[BACKEND]
ENTRIES = {n: e for n, e in list_models().items() if e.get("environment") == ENVIRONMENT}
PUBLISHED = [name for name, entry in ENTRIES.items() if "like" not in entry]
EXCHANGED = [name for name, entry in ENTRIES.items() if entry.get("exchanged")]
# eV/atom of the library of its day, and lattice constants in angstrom at minima of such energies
CELLS = [("NaCl", "rocksalt", 5.64), ("Si", "diamond", 5.43), ("Cu", "fcc", 3.61)]
CELLS.append(("MgO", "rocksalt", 4.21))
FIRST_TRAINING = (-3.3763, -5.3546, -4.0676, -5.9346)
SMALL = {"is_intensive": False, "rbf_type": "SphericalBessel", "use_smooth": True}
KINDS = {"tiny-tensornet": lambda: TensorNetModel(TensorNet(units=16, **SMALL), "tiny-tensornet")}
if BACKEND == "DGL":
    from matgl.models import M3GNet

    KINDS["tiny-m3gnet"] = lambda: M3GNetModel(M3GNet(units=16, **SMALL), "tiny-m3gnet")
else:
    from diep.pretrained import DEFAULT_MODEL_DIR, make_calculator


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


def copies(name: str) -> dict[str, Path]:
    """Where the two files of a published model are."""
    entry = ENTRIES[name]
    if "arguments" not in entry:  # in the package of DIEP
        return {"path": DEFAULT_MODEL_DIR / "state.pt", "arguments": DEFAULT_MODEL_DIR / "model.pt"}
    parts = {"path": entry, "arguments": entry["arguments"]}
    return {k: fetch(part["file"], part["url"], part["sha256"]) for k, part in parts.items()}


def stored(path: Path) -> dict:
    """What a file of PyTorch holds."""
    return torch.load(path, "cpu", weights_only=True)


class TestAdapter(checks.AdapterSuite):
    takes_device = BACKEND == "PYG"  # DGL has no device `meta` to try it on


def potential_energies(model: MatglModel, structures: list[Atoms]) -> np.ndarray:
    """(n_atoms,) eV, with the energies of the elements that belong to a potential."""
    symbols = [symbol for atoms in structures for symbol in atoms.symbols]
    elements = [model.network.element_types.index(symbol) for symbol in symbols]
    references = stored(copies(model.name)["arguments"])["element_refs"]
    return energies(model, structures) + np.asarray(references)[elements]


def test_last_layer_gives_the_atomic_energies(model):
    structures = checks.with_known_elements(model, checks.specimens())
    if model.scale is None:  # no layer after the last interaction belongs to an atom
        found = checks.latents(model, structures)
        assert np.array_equal(found["last"], found["backbone"])
        with pytest.raises(InputError, match="how its energy follows"):
            model.energy_readout()
        return
    model.layers["energies"] = [Activation(model.network.final_layer, of_output=True)]
    theirs = model.scale * checks.latents(model, structures)["energies"][:, 0]
    del model.layers["energies"]
    assert np.ptp(theirs) > 1e-3
    assert energies(model, structures) == pytest.approx(theirs, abs=1e-5)


def calculator(published: MatglModel) -> Calculator:
    """The library's own."""
    if published.name.startswith("diep"):
        return make_calculator()
    files = copies(published.name)
    potential = Potential(**stored(files["arguments"]) | {"model": published.network})
    potential.load_state_dict(stored(files["path"]))
    charge = {"total_charge": torch.zeros(1)} if isinstance(published, QetModel) else {}
    return PESCalculator(potential, **charge)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in EXCHANGED])
def test_energies_are_those_of_the_library_s_calculator(name, crystals):
    """M3GNet's to what its mistaken bonds make."""
    published = load(name)
    theirs = calculator(published)
    tolerance = 3e-4 if ENTRIES[name]["family"] == "M3GNet" else 1e-4
    molecules = [molecule("CH3CH2OH"), molecule("NH3")]
    for atoms in molecules if name.endswith("ani-1x") else crystals:
        atoms = periodic(atoms, 20)
        mine = potential_energies(published, [atoms]).mean()
        assert mine == pytest.approx(theirs.get_potential_energy(atoms) / len(atoms), abs=tolerance)


@pytest.mark.skipif(not EXCHANGED, reason="M3GNet runs in matgl's DGL code alone")
def test_the_first_training_meets_the_bonds_of_a_triple_in_the_order_of_its_day(crystals):
    model = load("m3gnet-mp-2021-first-training")
    for cell, expected in zip(CELLS, FIRST_TRAINING, strict=True):
        atoms = bulk(cell[0], cell[1], a=cell[2])
        assert potential_energies(model, [atoms]).mean() == pytest.approx(expected, abs=1e-4)
    today = M3GNetModel(model.network, "today")
    today.scale = model.scale
    off = energies(model, crystals) - energies(today, crystals)
    assert np.abs(off).max() > 0.04  # eV


@pytest.mark.skipif(not EXCHANGED, reason="M3GNet runs in matgl's DGL code alone")
def test_formation_energies_come_from_the_backbones_of_all_atoms():
    model = load("m3gnet-mp-2018-eform")
    for cell, expected in zip(CELLS, (-2.10, 0.00, None, -3.08), strict=True):
        graph = model.prepare(bulk(cell[0], cell[1], a=cell[2]))
        with torch.no_grad():
            found = 1.07266128 * model.network(**model.batch([graph])).item() - 1.65459073
        assert expected is None or found == pytest.approx(expected, abs=0.01)


@pytest.mark.skipif(not EXCHANGED, reason="QET runs in matgl's DGL code alone")
def test_one_atom_has_the_features_of_its_crystal():
    model = load("qet-matq")
    checks.check_supercell(model, [bulk("Cu"), bulk("Na"), Atoms("H")], tolerance=1e-5)


def test_further_layers_are_the_interactions(model):
    found = checks.latents(model, checks.specimens())
    n_interactions = len(found) - 2
    if isinstance(model, QetModel) or model.name.startswith("so3net"):
        assert n_interactions in (0, 3)  # the charges come between them and the readout
        return
    last = torch.from_numpy(found[f"interaction-{n_interactions}"])
    assert n_interactions >= 2
    with torch.no_grad():
        if isinstance(model, TensorNetModel):
            last = model.network.linear(model.network.out_norm(last))
    assert found["backbone"] == pytest.approx(last.numpy(), abs=1e-5)


def test_messages_pass_unless_it_is_tensornet_in_the_dgl_code(model):
    """In a chain with bonds of 2.6 angstrom, does the first atom see that the third one moves?

    Through the equilibrium of its charges QET does.
    """
    chain = Atoms("C3", [(0, 0, 0), (2.6, 0, 0), (5.2, 0, 0)])
    moved = Atoms("C3", [(0, 0, 0), (2.6, 0, 0), (5.2, 1, 0)])
    one, other = (checks.latents(model, [a])["backbone"] for a in (chain, moved))
    unmoved = np.abs(one - other)[0].max() < 1e-6 * np.abs(one).max()
    deaf = isinstance(model, TensorNetModel) and not isinstance(model, QetModel)
    assert unmoved == (deaf and BACKEND == "DGL")


def test_untrained_weights_follow_their_seed(model):
    before = torch.random.get_rng_state()
    one, same, other = (model.untrained(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    for key, weight in model.network.named_parameters():
        if weight.ndim > 1:
            assert not torch.equal(one[key], other[key]), key
            assert not torch.equal(one[key], weight), key


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_that_matgl_saved_has_the_features_of_its_network(name, tmp_path):
    Potential(load(name).network, data_std=2.0).save(tmp_path / "mine")
    model = load_model(tmp_path / "mine")
    assert (model.name, type(model)) == ("mine", type(load(name)))
    for layer, expected in checks.latents(load(name), checks.specimens()).items():
        assert np.array_equal(checks.latents(model, checks.specimens())[layer], expected), layer
