"""What the families share, and the element baseline."""

import json

import numpy as np
import pytest
import torch
from ase.build import fcc111

from umlip_latents import load_model
from umlip_latents.models.base import VERSION, identity, periodic

from .checks import latents, specimens

# of the backbone, the last layer, and the interactions, over the atoms of the crystals
NORMS = {
    "element": [4.7958, 4.7958],
    "chgnet-0.2.0": [24.452, 22.714, 19.195, 19.943, 21.349, 24.452],
    "chgnet-0.3.0": [13.077, 11.049, 104.89, 107.05, 104.86, 156.48],
    "chgnet-r2scan": [13.972, 10.668, 101.02, 102.32, 100.12, 148.34],
    "mini-mace-mptrj": [1.5923, 1.7159, 1.5416, 0.39853],
    "mini-mace-architecture-correlation-3-s0": [2.2761, 3.3475, 2.051, 0.98685],
}


def test_features_change_with_the_version_of_their_code_alone(crystals):
    """The norms of a few features. Where they change, raise `VERSION`, and renew them."""
    assert VERSION == 2
    for name, expected in NORMS.items():
        found = latents(load_model(name), crystals)
        norms = [float(np.linalg.norm(x)) for x in found.values()]
        assert norms == pytest.approx(expected, rel=1e-4), name


def test_identity_hangs_on_names_values_and_shapes():
    weights, about = [("w", np.ones((2, 3)))], {"cutoff": 5.0}
    others = [
        identity({"cutoff": 6.0}, weights),
        identity(about, [("v", np.ones((2, 3)))]),
        identity(about, [("w", np.ones((3, 2)))]),
        identity(about, [("w", np.ones((2, 3), np.float32))]),
        identity(about),
    ]
    assert identity(about, weights) == identity(about, weights)
    assert len({identity(about, weights), *others}) == 6


@pytest.fixture(params=["chgnet-0.3.0", "mini-mace-mptrj"])
def trainable(request):
    """A model that a test may change."""
    return load_model(request.param, device="cpu")


def test_what_is_saved_is_loaded_as_the_same_model(trainable, tmp_path):
    trainable.shift_elements(np.arange(119.0))
    path = trainable.save(str(tmp_path / "new"), note="kept")
    again = load_model(path)
    assert (again.name, path.name) == ("new", "new.safetensors")
    assert json.loads((tmp_path / "new.json").read_text())["note"] == "kept"
    one, other = (latents(model, specimens()[:2]) for model in (trainable, again))
    assert all(np.array_equal(one[layer], other[layer]) for layer in one)
    assert type(trainable)(trainable.network, "new").fingerprint == again.fingerprint


def test_untrained_twins_follow_their_seed_and_leave_the_global_random_state_alone(trainable):
    before = torch.random.get_rng_state()
    one, same, other = (
        type(trainable)(trainable.untrained(seed), "twin").fingerprint for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one == same != other


def test_the_element_is_one_hot():
    structures = specimens()
    rows = latents(load_model("element"), structures)["backbone"]
    assert (rows.sum(axis=1) == 1).all()
    numbers = np.concatenate([atoms.numbers for atoms in structures])
    assert np.array_equal(rows.argmax(axis=1) + 1, numbers)


def test_vacuum_leaves_periodic_directions_alone(ethanol):
    slab = fcc111("Al", (2, 2, 3), vacuum=3)
    padded = periodic(slab, 12).cell.array
    assert padded[:2] == pytest.approx(slab.cell.array[:2])
    assert np.linalg.norm(padded[2]) > np.ptp(slab.positions[:, 2]) + 12
    assert periodic(ethanol, 12).cell.volume > 12**3
