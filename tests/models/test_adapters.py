"""What every model must prove before its features mean anything.

The suite runs on the networks that this Python can run: in an environment of its own, by
``tests/zoo.py``, on the family that lives there.
"""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111

from umlip_latents import extract_features, list_models
from umlip_latents.models.base import LAYERS, LatentModel, periodic
from umlip_latents.resources import InputError

from ..conftest import HERE, REAL, TWINS
from . import checks

NETWORKS = (*REAL, *TWINS)


def of_family(family: str) -> list[str]:
    """The networks of a family."""
    return [name for name in NETWORKS if HERE[name]["family"] == family]


# Per family: atomic energies from the last layer by hand, and the library's own without what it
# adds for the element alone; both (n_atoms,) in eV.


def chgnet_energies(model: LatentModel, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """One map with a bias; the library adds composition energies."""
    graphs = [model.prepare(a) for a in structures]
    readout = model.network.mlp.layers[-1]
    last = model.features(graphs)["last"]
    mine = last @ readout.weight.detach().numpy()[0] + readout.bias.item()
    with torch.no_grad():
        site = model.network(graphs, return_site_energies=True)["site_energies"]
        composition = model.network.composition_model.get_site_energies(graphs)
    return mine, torch.cat([s - c for s, c in zip(site, composition, strict=True)]).numpy()


def mace_energies(model: LatentModel, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """A map without bias for every readout, their outputs of this head added up and rescaled."""
    from mace.tools import torch_geometric

    from umlip_latents.models.mace import scalar_columns

    graphs = [model.prepare(a) for a in structures]
    batch = torch_geometric.Batch.from_data_list(graphs).to_dict()
    last = model.features(graphs)["last"]
    head = model.heads.index(model.head)
    with torch.no_grad():
        out = model.network(batch, compute_force=False)["node_energy"].numpy()
        isolated = model.network.atomic_energies_fn(batch["node_attrs"]).numpy()[:, head]
    start, mine = 0, np.zeros(len(last))
    for readout, linear in zip(model.network.readouts, model.last_maps, strict=True):
        columns = model.read_columns(readout)
        scalars = scalar_columns(linear.irreps_in)
        weights = linear.weight.detach().numpy().reshape(len(scalars), -1)[:, head]
        weights = weights[np.searchsorted(scalars, columns)] / np.sqrt(len(scalars))  # as in e3nn
        mine += last[:, start : start + len(columns)] @ weights
        start += len(columns)
    rescale = model.network.scale_shift
    mine = np.atleast_1d(rescale.scale)[head] * mine + np.atleast_1d(rescale.shift)[head]
    return mine, out - isolated


@cache
def sevennet_library(model: LatentModel) -> tuple:
    """SevenNet's own calculator of a model; shift and scale by atomic number."""
    from sevenn.calculator import SevenNetCalculator
    from sevenn.util import load_checkpoint

    name, modal = HERE[model.name].get("like", model.name), model.modal
    checkpoint = load_checkpoint("7net-mf-0" if modal else name)
    shift, scale = checkpoint.config["shift"], checkpoint.config["scale"]
    network = checkpoint.build_model()
    network.load_state_dict(model.network.state_dict(), strict=False)  # ours has no force output
    calculator = SevenNetCalculator(network, "model_instance", "cpu", modal)
    return calculator, np.array(shift[modal] if modal else shift), np.array(scale)


def sevennet_energies(model: LatentModel, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """One map without bias, rescaled; the library's calculator adds a shift for each element."""
    last = model.features([model.prepare(a) for a in structures])["last"]
    linear = model.network.reduce_hidden_to_energy.linear
    mine = last @ linear.weight.detach().numpy() / np.sqrt(linear.irreps_in.dim)  # as in e3nn
    calculator, shift, scale = sevennet_library(model)
    theirs = []
    for atoms in structures:
        calculator.calculate(atoms)
        theirs.append(calculator.results["energies"])
    numbers = np.concatenate([a.numbers for a in structures])
    return mine * scale[numbers], np.concatenate(theirs) - shift[numbers]


ENERGIES = {"CHGNet": chgnet_energies, "MACE": mace_energies, "SevenNet": sevennet_energies}


def in_double(model: LatentModel) -> LatentModel:
    """The same model in double precision, as far as its library lets it."""
    network = copy.deepcopy(model.network).double()
    family = HERE[model.name]["family"]
    if family == "CHGNet":
        network.composition_model.float()  # it has no part in the features
        twin = type(model)(network, model.name)
        prepare = twin.prepare

        def prepare_in_double(atoms: Atoms):
            graph = prepare(atoms)
            for key in ("atom_frac_coord", "lattice", "neighbor_image"):
                setattr(graph, key, getattr(graph, key).detach().double())
            return graph

        twin.prepare = prepare_in_double
        return twin
    if family == "MACE":
        return type(model)(network, model.name, model.head)

    def double_onehot(module, args, data):
        for key, value in data.to_dict().items():
            if torch.is_tensor(value) and value.dtype == torch.float32:
                data[key] = value.double()

    # SevenNet makes its one-hot vectors in single precision
    network.onehot_idx_to_onehot.register_forward_hook(double_onehot)
    return type(model)(network, model.name, model.modal)


@pytest.fixture
def model(models, name) -> LatentModel:
    """The network that a test is about."""
    return models[name]


@pytest.mark.parametrize("name", of_family("CHGNet"))
class TestChgnet(checks.AdapterSuite):
    isolated_atoms_accepted = False  # CHGNet's own graph has no place for them


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in of_family("CHGNet")])
class TestOthers(checks.AdapterSuite):
    def test_a_lone_atom_beside_a_crystal(self, model):
        checks.check_widths(model, [Atoms("H"), bulk("Cu")])


@pytest.mark.parametrize("name", NETWORKS)
def test_widths_and_parameters_are_those_of_the_catalogue(models, name):
    model, entry = models[name], list_models()[name]
    assert {layer: model.widths[layer] for layer in LAYERS} == entry["widths"]
    assert sum(p.numel() for p in model.network.parameters()) == entry["parameters"]


@pytest.mark.parametrize("name", NETWORKS)
def test_single_and_double_precision_agree(models, name):
    checks.check_precision(models[name], in_double(models[name]), checks.specimens())


@pytest.mark.parametrize("name", NETWORKS)
def test_last_layer_gives_the_library_energy(models, crystals, name):
    mine, theirs = ENERGIES[HERE[name]["family"]](models[name], crystals)
    assert mine == pytest.approx(theirs, abs=2e-5 * max(1, float(np.abs(theirs).max())))


# Equilibrium lattice constants in angstrom. PBE: Haas, Tran and Blaha, Phys. Rev. B 79, 085104
# (2009); r2SCAN: between PBE and experiment, known here to about 0.02 angstrom.
LATTICE_CONSTANTS = {
    "PBE / PBE+U": {"NaCl": 5.70, "Si": 5.47, "Cu": 3.63},
    "r2SCAN": {"NaCl": 5.61, "Si": 5.44, "Cu": 3.58},
}


# by mini-mace-mptrj, trained on two thousand structures, from 20 % below to 20 % above
MEASURED = {"NaCl": "no minimum", "Si": "5.85 angstrom, 7 % too large", "Cu": "3.76, 3.5 %"}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("crystal", ["NaCl", "Si", "Cu"])
def test_lattice_constants_are_those_of_the_functional(models, request, name, crystal):
    if name == "mini-mace-mptrj":
        request.applymarker(pytest.mark.xfail(reason=MEASURED[crystal], strict=True))
    if name == "mini-mace-base-s0" and crystal != "Si":  # 750 structures teach no equation of state
        request.applymarker(pytest.mark.xfail(reason="off by more than 2 %", strict=True))
    known = LATTICE_CONSTANTS[HERE[name]["functional"]][crystal]
    lattice = {"NaCl": "rocksalt", "Si": "diamond", "Cu": "fcc"}[crystal]
    constants = known * np.linspace(0.95, 1.05, 11)
    cells = [bulk(crystal, lattice, a=a) for a in constants]
    _, energies = ENERGIES[HERE[name]["family"]](models[name], cells)
    curve = np.polynomial.Polynomial.fit(constants, energies.reshape(11, -1).sum(axis=1), 4)
    stationary = curve.deriv().roots()
    real = stationary[np.abs(stationary.imag) < 1e-9].real
    minima = [a for a in real if constants[0] < a < constants[-1] and curve.deriv(2)(a) > 0]
    assert minima == [pytest.approx(known, rel=0.02)]


@pytest.mark.parametrize("name", NETWORKS)
def test_further_layers_are_the_interactions(models, crystals, name):
    model = models[name]
    found = model.features([model.prepare(a) for a in crystals])
    further = [layer for layer in model.widths if layer not in LAYERS]
    assert further == [f"interaction-{i}" for i in range(1, len(further) + 1)]
    assert len(further) >= 2
    for layer in further:
        assert found[layer].shape == (sum(map(len, crystals)), model.widths[layer])
    last = found[further[-1]]
    if HERE[name]["family"] == "MACE":
        last = np.concatenate([found[layer] for layer in further], axis=1)
    elif (norm := getattr(model.network, "readout_norm", None)) is not None:
        last = norm(torch.from_numpy(last)).detach().numpy()
    assert found["backbone"] == pytest.approx(last, abs=1e-5)
    extracted = extract_features(crystals, model, "interaction-2", progress=False)
    scale = float(np.abs(found["interaction-2"]).max())
    assert extracted.features == pytest.approx(found["interaction-2"], abs=1e-5 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unknown_layer_is_refused_and_the_known_ones_named(models, crystals, name):
    with pytest.raises(InputError, match=f"{name} has backbone, last, interaction-1"):
        extract_features(crystals, models[name], "interaction-9", progress=False)


@pytest.mark.parametrize("name", of_family("CHGNet"))
def test_chgnet_backbone_gives_the_last_layer(models, crystals, name):
    model = models[name]
    backbone = extract_features(crystals, model, "backbone", progress=False).features
    last = extract_features(crystals, model, "last", progress=False).features
    with torch.no_grad():
        hidden = model.network.mlp.layers[:-1](torch.from_numpy(backbone)).numpy()
    assert hidden == pytest.approx(last, abs=1e-5)


@pytest.mark.parametrize("name", [n for n in REAL if HERE[n]["family"] == "CHGNet"])
def test_chgnet_is_loaded_as_the_library_loads_it(models, crystals, name):
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    version = name.removeprefix("chgnet-")
    theirs = CHGNet.load(model_name=version, use_device="cpu", verbose=False)
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, models[name].network.state_dict()[key]), key
    structure = AseAtomsAdaptor.get_structure(crystals[0])
    expected = theirs.predict_structure(structure, task="e")["e"]
    with torch.no_grad():
        found = models[name].network([models[name].prepare(crystals[0])], task="e")["e"].item()
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_element_model_is_one_hot(models, crystals):
    found = extract_features(crystals, models["element"], progress=False)
    assert (found.features.sum(axis=1) == 1).all()
    assert (found.features.argmax(axis=1) + 1 == found.numbers).all()


def test_vacuum_leaves_periodic_directions_alone(ethanol):
    slab = fcc111("Al", (2, 2, 3), vacuum=3)
    padded = periodic(slab, 12).cell.array
    assert padded[:2] == pytest.approx(slab.cell.array[:2])
    assert np.linalg.norm(padded[2]) > np.ptp(slab.positions[:, 2]) + 12
    assert periodic(ethanol, 12).cell.volume > 12**3
