"""SevenNet: the checkpoints that its package ships."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sevenn
import torch
from ase import Atoms
from ase.build import fcc111
from sevenn.calculator import SevenNetCalculator
from sevenn.util import load_checkpoint

from umlip_latents import list_models, load_model
from umlip_latents.models.sevennet import SevenNetModel
from umlip_latents.resources import InputError

from . import checks
from .checks import latents, specimens

NAMES = [name for name, entry in list_models().items() if entry["family"] == "SevenNet"]


@pytest.fixture(scope="module", params=NAMES)
def model(models, request) -> SevenNetModel:
    return models[request.param]


class TestAdapter(checks.AdapterSuite):
    @pytest.fixture(scope="class", params=["7net-0", "7net-l3i5", "7net-mf-0-R2SCAN"])
    def model(self, models, request) -> SevenNetModel:
        return models[request.param]


@cache
def library(model: SevenNetModel) -> tuple[SevenNetCalculator, np.ndarray]:
    """The library's own calculator of a model; shifts by atomic number."""
    name, modal = list_models()[model.name].get("like", model.name), model.modal
    checkpoint = load_checkpoint("7net-mf-0" if modal else name)
    shift = checkpoint.config["shift"]
    network = checkpoint.build_model()
    network.load_state_dict(model.network.state_dict(), strict=False)  # ours has no force output
    calculator = SevenNetCalculator(network, "model_instance", "cpu", modal)
    return calculator, np.array(shift[modal] if modal else shift)


def energies(model: SevenNetModel, structures: list[Atoms]) -> np.ndarray:
    """(n_atoms,) in eV, shifted for each element."""
    numbers = np.concatenate([a.numbers for a in structures])
    return checks.energies(model, structures) + library(model)[1][numbers]


def test_last_layer_gives_the_energies_of_the_library(model, crystals):
    calculator, _ = library(model)
    theirs = []
    for atoms in crystals:
        calculator.calculate(atoms)
        theirs.append(calculator.results["energies"])
    theirs = np.concatenate(theirs)
    scale = max(1, float(np.abs(theirs).max()))
    assert energies(model, crystals) == pytest.approx(theirs, abs=2e-5 * scale)


def test_backbone_is_the_last_interaction(model):
    found = latents(model, specimens()[:3])
    assert list(found)[2:] == [f"interaction-{i}" for i in (1, 2, 3, 4, 5)]
    assert np.array_equal(found["backbone"], found["interaction-5"])


def test_a_slab_may_stand_on_its_edge(models):
    """Its own code replaces the cell vector of the vacuum as if the slab were flat."""
    flat = fcc111("Al", (2, 2, 2), vacuum=8)
    standing = flat.copy()
    standing.rotate(90, "x", rotate_cell=True)
    checks.check_same(models["7net-0"], [standing], [flat])


def test_untrained_twins_follow_their_seed():
    one, same, other = (
        torch.cat([w.flatten() for w in load_model(f"7net-untrained-s{s}").network.parameters()])
        for s in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("name", "part"), [("7net-0", ""), ("7net-mf-0-PBE", ":PBE")])
def test_a_file_has_the_features_of_its_checkpoint(models, tmp_path, monkeypatch, name, part):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = Path(sevenn.__file__).parent / "pretrained_potentials" / list_models()[name]["file"]
    shutil.copy(file, tmp_path / "tuned.pth")
    model = load_model(f"{tmp_path}/tuned.pth{part}", trust=True)
    for layer, expected in latents(models[name], specimens()).items():
        assert np.array_equal(latents(model, specimens())[layer], expected), layer
    with pytest.raises(InputError, match="needs one of its modalities"):
        load_model(f"{tmp_path}/tuned.pth{'' if part else ':PBE'}")
