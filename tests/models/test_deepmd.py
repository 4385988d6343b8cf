"""DPA-3: tiny networks with random weights, frozen by deepmd-kit or in a two-branch checkpoint."""

import copy

import numpy as np
import pytest
import torch

from umlip_latents.models.deepmd import DeepmdModel, DeepPot, load  # first: it sets deepmd-kit up

from . import checks
from .checks import latents, specimens

# isort: split
from deepmd.pt.entrypoints.main import freeze
from deepmd.pt.model.model import get_model
from deepmd.pt.train.wrapper import ModelWrapper

REPFLOW = {"n_dim": 16, "e_dim": 8, "a_dim": 8, "nlayers": 2, "axis_neuron": 4}
REPFLOW |= {"e_rcut": 5.0, "e_rcut_smth": 4.5, "e_sel": 120}
REPFLOW |= {"a_rcut": 3.5, "a_rcut_smth": 3.0, "a_sel": 40, "update_angle": True}
REPFLOW |= {"smooth_edge_update": True, "use_dynamic_sel": True, "sel_reduce_factor": 10.0}
PARAMS = {
    # not in the order of the periodic table
    "type_map": ["Cu", "H", "O", "C", "Na", "Si", "Al", "Cl"],
    "descriptor": {"type": "dpa3", "repflow": REPFLOW},
    "fitting_net": {"neuron": [12, 12, 10], "resnet_dt": True, "seed": 1},
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
    takes_device = False
    widths = (16, 10)


def test_last_layer_gives_the_atomic_energies(model):
    final = network(0)[0].atomic_model.fitting_net.filter_layers.networks[0].layers[-1]
    energies = []
    for atoms in specimens():
        positions, cell, types, _ = model.prepare(atoms)
        atomic = model.potential.eval(positions[None], cell, types, atomic=True)[3]
        energies.append(np.ravel(atomic) - types)  # less the energies of the elements
    weight, bias = final.matrix.detach().numpy(), final.bias.detach().numpy()
    checks.check_readout(model, specimens(), weight, bias, np.concatenate(energies))


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
