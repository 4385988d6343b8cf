"""Training from recipes, and the shipped checkpoints."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from ase.io import write

from umlip_latents import load_model
from umlip_latents.resources import DATA, InputError
from umlip_latents.training import recipes
from umlip_latents.training.recipes import read_recipe, recipe_parts, train_recipe

MACE = json.loads((DATA / "recipes" / "mini-mace-base-s0.json").read_text())["mace"]
QUICK = {"num_channels": 4, "num_interactions": 1, "r_max": 4.0, "batch_size": 50}  # of all
QUICK |= {"default_dtype": "float64"}  # the trainer makes it that of the whole process


def write_recipe(folder, structures, mace=(), **changes):
    """A recipe of seconds and its data; returns its path and that of the output to come."""
    write(folder / "data.xyz", structures)
    recipe = {
        "name": "tiny",
        "datasets": [f"{folder}/*.xyz"],
        "group": "origin",
        "held_out": 1,
        "validation": 1,
        "split_seed": 0,
        "mace": {**MACE, **QUICK, "max_num_epochs": 2, **dict(mace)},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe | changes))
    return folder / "recipe.json", folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, metals):
    """The folder of a finished training, and its card."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, train_recipe(*write_recipe(folder, metals))


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """Recipe and output of a copy of the finished training; nothing can be trained there."""

    def would_train(*arguments):
        raise RuntimeError("would train")

    monkeypatch.setattr(recipes, "run_trainer", would_train)
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "recipe.json", tmp_path / "tiny.safetensors"


def test_a_recipe_trains_a_model_that_has_the_errors_of_its_card(finished):
    folder, card = finished
    assert {f.name for f in folder.iterdir()} == {
        *("data.xyz", "recipe.json", "tiny.json", "tiny.safetensors")
    }
    assert card == json.loads((folder / "tiny.json").read_text())
    assert card["trained_elements"] == ["Al", "Cu"]
    held_out = recipe_parts(read_recipe(folder / "recipe.json"))["held out"]
    name = f"{folder}/*.xyz"
    again = recipes.errors_by_dataset(load_model(folder / "tiny.safetensors"), held_out)
    assert again[name] == pytest.approx(card["held_out_errors"][name], rel=1e-4)


def test_a_training_leaves_number_type_and_logging_of_the_process_alone(finished):
    assert torch.get_default_dtype() == torch.float32  # whatever the trainer has set
    assert not [h for h in logging.root.handlers if "mace" in str(getattr(h, "baseFilename", ""))]


def test_a_finished_training_is_not_repeated(finished, copied):
    before = copied[1].stat().st_mtime_ns
    assert train_recipe(*copied) == finished[1]
    assert copied[1].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("file", "entries"),
    [("recipe.json", {"split_seed": 1}), ("tiny.json", {"data_sha256": {}}), ("tiny.json", None)],
    ids=["other recipe", "other data", "no card"],
)
def test_the_output_of_another_training_is_refused_and_kept(copied, file, entries):
    recipe, output = copied
    changed = output.with_name(file)
    content = json.loads(changed.read_text()) | entries if entries else []
    changed.write_text(json.dumps(content))
    before = {file: file.read_bytes() for file in output.parent.iterdir()}
    with pytest.raises(InputError, match=r"tiny\.safetensors: .* and not from the recipe tiny"):
        train_recipe(recipe, output)
    assert {file: file.read_bytes() for file in output.parent.iterdir()} == before


def test_missing_weights_are_trained(copied):
    copied[1].unlink()  # as if killed between card and weights
    with pytest.raises(RuntimeError, match="would train"):
        train_recipe(*copied)


def test_data_that_cannot_be_trained_on_are_named(tmp_path, monkeypatch, metals):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "run_trainer", None)
    bad = {
        "training structure 0: has no energy": {"datasets": ["embedded"], "group": "name"},
        r"nowhere\.xyz: no such file": {"datasets": ["nowhere.xyz"]},
    }
    for cause, changes in bad.items():
        recipe, output = write_recipe(tmp_path, metals, **changes)
        with pytest.raises(InputError, match=cause):
            train_recipe(recipe, output)
        assert not output.exists()


def test_a_training_that_diverges_writes_nothing(tmp_path, metals):
    recipe, output = write_recipe(tmp_path, metals, mace={"lr": 1e30, "clip_grad": 1e30})
    with pytest.raises(InputError, match=r"tiny: (the training diverges|its weights)"):
        train_recipe(recipe, output)
    assert not list(tmp_path.glob("tiny*"))


@pytest.mark.parametrize("name", ["mini-mace-mptrj", "mini-mace-base-s0"])
def test_a_shipped_mace_is_better_than_composition_alone(name):
    card = json.loads((DATA / "checkpoints" / f"{name}.json").read_text())
    errors, baseline = card["held_out_errors"], card["linear_baseline_errors"]
    for key in ("energy_mae_meV_per_atom", "force_rmse_meV_per_angstrom"):
        found, known = (np.mean([e[key] for e in d.values()]) for d in (errors, baseline))
        assert found < 0.8 * known, key
