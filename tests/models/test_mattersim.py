"""MatterSim: a narrow M3GNet with random weights."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
from mattersim.forcefield.potential import Potential, batch_to_dict
from torch_geometric.data import Batch

from umlip_latents.models.mattersim import MatterSimModel, load

from . import checks
from .checks import latents, specimens


def network() -> M3Gnet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return M3Gnet(num_blocks=2, units=16, device="cpu")


@pytest.fixture(scope="module")
def model() -> MatterSimModel:
    return MatterSimModel(network(), "small-m3gnet")


class TestAdapter(checks.AdapterSuite):
    isolated_atoms_accepted = False
    unknown = ("Po", "Og")
    widths = (16, 32)


def library_energies(model, structures) -> torch.Tensor:
    """Energies of structures, with the scale and the elements' energies that the library adds."""
    batch = Batch.from_data_list([model.prepare(a) for a in structures])
    with torch.no_grad():
        return model.network(batch_to_dict(batch, device="cpu"))


def test_last_layer_gives_the_energies(model):
    """The library gives sums over atoms: of one-atom cells and of whole structures."""
    structures = [bulk("Cu"), bulk("Al"), bulk("Na"), *specimens()]
    ends = np.cumsum([len(a) for a in structures])[:-1]
    last = torch.tensor(latents(model, structures)["last"])
    linear, gate = (part.module for part in model.layers["last"])
    with torch.no_grad():
        h, g = last.split([linear.in_features, gate.in_features], dim=1)
        atomic = (linear(h) * torch.sigmoid(gate(g))).numpy()[:, 0]
    totals = np.array([part.sum() for part in np.split(atomic, ends)])
    assert checks.deviation(totals, library_energies(model, structures).numpy()) < 1e-5


def test_load_takes_a_checkpoint_of_the_library(model, tmp_path):
    Potential(network(), device="cpu").save(str(tmp_path / "model.pth"))
    found = load("again", {"path": tmp_path / "model.pth"})
    assert found.fingerprint == model.fingerprint
