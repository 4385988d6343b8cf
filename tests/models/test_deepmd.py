"""DPA-3: tiny networks with random weights, frozen by deepmd-kit or in a two-branch checkpoint."""

import copy

import numpy as np
import pytest
import torch

from . import checks
from .checks import latents, specimens

pytest.importorskip("deepmd", reason="needs the environment `deepmd` (deepmd-kit)")

from umlip_latents.models.dpa3 import DeepmdModel, DeepPot, load  # first: it sets deepmd-kit up

# isort: split
from deepmd.pt.entrypoints.main import freeze
from deepmd.pt.model.model import get_model
from deepmd.pt.train.wrapper import ModelWrapper

PARAMS = {
    # not in the order of the periodic table
    "type_map": ["Cu", "H", "O", "C", "Na", "Si", "Al", "Cl"],
    "descriptor": {
        "type": "dpa3",
        "repflow": {
            "n_dim": 16,
            "e_dim": 8,
            "a_dim": 8,
            "nlayers": 2,
            "e_rcut": 5.0,
            "e_rcut_smth": 4.5,
            "e_sel": 120,
            "a_rcut": 3.5,
            "a_rcut_smth": 3.0,
            "a_sel": 40,
            "axis_neuron": 4,
            "update_angle": True,
            "smooth_edge_update": True,
            "use_dynamic_sel": True,
            "sel_reduce_factor": 10.0,
        },
        "precision": "float32",
    },
    "fitting_net": {"neuron": [12, 12, 10], "resnet_dt": True, "precision": "float32", "seed": 1},
}


def network(seed: int, precision: str = "float32") -> tuple[torch.nn.Module, dict]:
    params = copy.deepcopy(PARAMS)
    params["descriptor"]["precision"] = params["fitting_net"]["precision"] = precision
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = get_model(copy.deepcopy(params))
    with torch.no_grad():  # energies of the elements, as a trained model has them
        built.atomic_model.out_bias.copy_(torch.arange(8.0)[None, :, None])
    return built.eval(), params


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A frozen model, as users make it from a checkpoint."""
    folder = tmp_path_factory.mktemp("deepmd")
    built, params = network(0)
    wrapper = ModelWrapper(built, model_params=params)
    torch.save({"model": wrapper.state_dict()}, folder / "model.pt")
    freeze(str(folder / "model.pt"), str(folder / "frozen.pth"))
    return folder / "frozen.pth"


@pytest.fixture(scope="module")
def model(frozen) -> DeepmdModel:
    return DeepmdModel(DeepPot(str(frozen)), "tiny-dpa3")


class TestAdapter(checks.AdapterSuite):
    def test_widths(self, model):
        assert model.widths == {"backbone": 16, "last": 10}


def test_last_layer_gives_the_atomic_energies(model):
    final = network(0)[0].atomic_model.fitting_net.filter_layers.networks[0].layers[-1]
    energies = []
    for atoms in specimens():
        positions, cell, types, _ = model.prepare(atoms)
        atomic = model.potential.eval(positions[None], cell, types, atomic=True)[3]
        energies.append(np.ravel(atomic) - types)  # less the energies of the elements
    weight, bias = final.matrix.detach().numpy(), final.bias.detach().numpy()
    checks.check_readout(model, specimens(), weight, bias, np.concatenate(energies))


def test_types_go_through_the_type_map(model):
    assert model.types[29] == 0
    assert model.types[1] == 1
    copper = [a for a in specimens() if (a.numbers == 29).all()]
    renamed = [a.copy() for a in copper]
    renamed[0].numbers[:] = 11
    one, other = latents(model, copper), latents(model, renamed)
    assert checks.deviation(one["backbone"], other["backbone"]) > 1e-3


def test_each_branch_is_a_model(tmp_path):
    (first, params), (second, _) = network(1), network(2)
    both = {"model_dict": {"Alloy": params, "Molecule": params}}
    wrapper = ModelWrapper({"Alloy": first, "Molecule": second}, model_params=both)
    torch.save({"model": wrapper.state_dict()}, tmp_path / "branches.pt")
    path = tmp_path / "branches.pt"
    alloy, molecule = (
        load(f"tiny-{branch}", {"path": path, "branch": branch}) for branch in ("Alloy", "Molecule")
    )
    assert alloy.fingerprint != molecule.fingerprint
    one, other = latents(alloy, specimens()), latents(molecule, specimens())
    assert checks.deviation(one["last"], other["last"]) > 1e-3


def test_precision(model, tmp_path):
    built, params = network(0, "float64")
    built.load_state_dict(network(0)[0].state_dict())
    wrapper = ModelWrapper(built, model_params=params)
    torch.save({"model": wrapper.state_dict()}, tmp_path / "double.pt")
    double = DeepmdModel(DeepPot(str(tmp_path / "double.pt"), no_jit=True), "double")
    checks.check_precision(model, double, specimens())
