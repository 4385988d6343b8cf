"""PET: a tiny model that metatrain trains for one epoch, loaded from its checkpoint."""

import subprocess
import sys

import ase.io
import numpy as np
import pytest
import torch
import yaml
from metatomic.torch import ModelOutput
from metatrain.llpr import LLPRUncertaintyModel
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.io import load_model

from umlip_latents.models.base import LAYERS
from umlip_latents.models.pet import PetModel, load

from . import checks
from .checks import latents, specimens

SIZES = {"d_pet": 16, "d_node": 24, "d_head": 12, "d_feedforward": 16, "num_heads": 2}
SIZES |= {"cutoff": 4.5, "num_attention_layers": 1, "num_gnn_layers": 2}
TRAINING = {"num_epochs": 1, "batch_size": 5}
OPTIONS = {
    "seed": 0,
    "device": "cpu",
    "architecture": {"name": "pet", "model": SIZES, "training": TRAINING},
    "training_set": {
        "systems": {"read_from": "train.xyz", "length_unit": "angstrom"},
        "targets": {"energy": {"key": "energy", "unit": "eV"}},
    },
    "validation_set": 0.2,
    "test_set": 0.0,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with ``model.ckpt``, trained on distorted specimens with made-up energies."""
    folder = tmp_path_factory.mktemp("pet")
    rng = np.random.default_rng(0)
    structures = []
    for atoms in specimens() * 3:
        atoms.rattle(0.05, rng=rng)
        atoms.info["energy"] = rng.normal() - 3.0 * len(atoms)
        structures.append(atoms)
    ase.io.write(folder / "train.xyz", structures)
    (folder / "options.yaml").write_text(yaml.safe_dump(OPTIONS))
    command = [sys.executable, "-m", "metatrain", "train", "options.yaml", "-o", "model.pt"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def model(checkpoint) -> PetModel:
    return load("tiny-pet", {"path": checkpoint / "model.ckpt"})


class TestAdapter(checks.AdapterSuite):
    rotation_is_learned = True
    widths = (24 + 16, 12 + 12)
    takes_device = False  # systems of TorchScript do not give away what they hold


def test_last_layer_gives_the_atomic_energies(model):
    """In training mode PET leaves out its scale and the composition's energies.

    The bias of the edge readout enters once for every neighbour inside the cutoff, which the last
    layer does not count: it is taken out of both sides.
    """
    pet = model.network.module
    node = pet.backend.node_last_layers["energy"][0]["energy___0"]
    edge = pet.backend.edge_last_layers["energy"][0]["energy___0"]
    bias = edge.bias.detach().clone()
    systems = [model.prepare(a) for a in specimens()]
    try:
        pet.train()
        with torch.no_grad():
            edge.bias.zero_()
            found = pet(systems, {"energy": ModelOutput(sample_kind="atom")})
            edge.bias.copy_(bias)
    finally:
        pet.eval()
    weight = torch.cat([node.weight, edge.weight], dim=1).detach().numpy()
    bias, atomic = node.bias.detach().numpy(), found["energy"].block().values.numpy()
    checks.check_readout(model, specimens(), weight, bias, atomic)


def test_a_model_wrapped_for_its_uncertainty_has_the_same_features(model, checkpoint):
    inner = load_model(checkpoint / "model.ckpt")
    wrapper = LLPRUncertaintyModel(get_default_hypers("llpr")["model"], inner.dataset_info)
    wrapper.set_wrapped_model(inner)
    wrapped = PetModel(wrapper.eval().export(), "wrapped", "energy")
    assert wrapped.widths == model.widths
    one, other = latents(model, specimens()), latents(wrapped, specimens())
    for layer in LAYERS:
        assert np.array_equal(one[layer], other[layer])
