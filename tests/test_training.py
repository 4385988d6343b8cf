"""Training from recipes, and the cards of the shipped checkpoints."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from umlip_latents import load_model, load_structures, training
from umlip_latents.models import mace
from umlip_latents.resources import DATA, InputError, sha256
from umlip_latents.training import (
    by_dataset,
    model_errors,
    read_recipe,
    recipe_parts,
    same_group,
    train_recipe,
)

CARDS = sorted((DATA / "checkpoints").glob("*.json"))
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
CARD = json.loads((DATA / "checkpoints" / "mini-mace-mptrj.json").read_text())


def tiny(folder, **changes):
    """A recipe of seconds over a handful of labelled crystals, and the output to come."""
    crystals = load_structures("li3ps4-gfn1")[::30]
    for i, atoms in enumerate(crystals):
        atoms.info["origin"] = i // 2
    write(folder / "data.xyz", crystals)
    mace = CARD["recipe"]["mace"] | {"num_channels": 4, "max_num_epochs": 2, "r_max": 4.0}
    given = {
        "name": "tiny",
        "datasets": [str(folder / "data.xyz")],
        "group": "origin",
        "held_out": 1,
        "validation": 1,
        "split_seed": 0,
        "mace": mace | {"batch_size": 2} | changes.pop("mace", {}),
    } | changes
    (folder / "recipe.json").write_text(json.dumps(given))
    return folder / "recipe.json", folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished training: its folder and its card."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, train_recipe(*tiny(folder))


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    """Recipe and output of a copy of the finished training; nothing can be trained there."""

    def would_train(*arguments):
        raise RuntimeError("would train")

    monkeypatch.setattr(mace, "trained", would_train)
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    given = json.loads((trained[0] / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps(given))
    return tmp_path / "recipe.json", tmp_path / "tiny.safetensors"


def test_a_tiny_recipe_trains_and_loads(trained):
    """The whole road from recipe to shipped checkpoint."""
    folder, card = trained
    assert card == json.loads((folder / "tiny.json").read_text())
    assert card["n_structures"]["held out"] == 1
    assert card["trained_elements"] == ["Li", "P", "S"]
    parts = recipe_parts(read_recipe(folder / "recipe.json"))
    errors = model_errors(load_model(folder / "tiny.safetensors"), parts["held out"])
    assert errors == pytest.approx(card["held_out_errors"][str(folder / "data.xyz")], rel=1e-4)
    assert [e["epoch"] for e in card["validation_curve"]] == [None, 0, 1]
    assert {f.name for f in folder.iterdir()} == {
        *("data.xyz", "recipe.json", "tiny.json", "tiny.safetensors")
    }


@pytest.mark.parametrize("limit", [100, 20_000])  # the structures, or a checkpoint
def test_a_full_disk_ends_the_training_with_a_sentence(limit, tmp_path, monkeypatch, small_files):
    recipe, output = tiny(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full = pytest.raises(InputError, match="mace-torch's trainer stops there")
    with small_files(limit), full:
        train_recipe(recipe, output)
    assert {f.name for f in tmp_path.iterdir()} == {"data.xyz", "recipe.json"}


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def dies(folder):
    """Train until the middle of the second epoch, and be killed."""
    torch.set_num_threads(1)  # those of the parent are not here
    tempfile.tempdir = str(folder)
    train = import_module("mace.tools.train")
    train_one_epoch = train.train_one_epoch

    def until(epoch, **others):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        train_one_epoch(epoch=epoch, **others)

    train.train_one_epoch = until
    train_recipe(folder / "recipe.json", folder / "tiny.safetensors")


def test_a_killed_training_starts_again_and_runs_no_planted_pickle(trained, tmp_path):
    recipe_file, output = tiny(tmp_path, datasets=[str(trained[0] / "data.xyz")])
    planted = tmp_path / "tiny" / "checkpoints" / "run_run-0_epoch-1.pt"
    planted.parent.mkdir(parents=True)
    torch.save(Evil(tmp_path / "executed"), planted)
    child = multiprocessing.get_context("fork").Process(target=dies, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list(tmp_path.glob("umlip-latents-*/checkpoints/*epoch-0.pt"))  # it was on its way
    assert not output.exists()
    assert train_recipe(recipe_file, output) == trained[1]
    assert output.read_bytes() == (trained[0] / "tiny.safetensors").read_bytes()
    assert not (tmp_path / "executed").exists()


def test_a_finished_training_is_not_repeated(trained, copied):
    before = [file.read_bytes() for file in sorted(copied[0].parent.iterdir())]
    assert train_recipe(*copied) == trained[1]
    assert [file.read_bytes() for file in sorted(copied[0].parent.iterdir())] == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: change(folder / "recipe.json", split_seed=1),
        lambda folder: change(folder / "recipe.json", mace=CARD["recipe"]["mace"]),
        lambda folder: (folder / "tiny.json").unlink(),
        lambda folder: (folder / "tiny.json").write_text("{"),
        lambda folder: (folder / "tiny.json").write_text("[]"),
        lambda folder: (folder / "tiny.json").write_bytes(b"\xff"),
        lambda folder: change(folder / "tiny.json", recipe=None),
        lambda folder: change(folder / "tiny.json", data_sha256={}),
        lambda folder: os.replace(folder / "recipe.json", folder / "tiny.json"),
    ],
)
def test_the_output_of_another_training_is_refused(copied, damage):
    recipe_file, output = copied
    damage(output.parent)
    if not recipe_file.exists():  # its card would have the name of the recipe
        recipe_file = output.with_suffix(".json")
    before = [file.read_bytes() for file in sorted(output.parent.iterdir())]
    with pytest.raises(InputError, match=r"tiny\.safetensors: .* and not from the recipe tiny"):
        train_recipe(recipe_file, output)
    assert [file.read_bytes() for file in sorted(output.parent.iterdir())] == before


def test_changed_data_are_other_data(copied):
    recipe_file, output = copied
    own = output.parent / "own.xyz"
    shutil.copy(output.parent / "data.xyz", own)
    change(recipe_file, datasets=[str(own)])
    card = json.loads(output.with_suffix(".json").read_text())
    change(recipe_file.with_name("tiny.json"), recipe=card["recipe"] | {"datasets": [str(own)]},
           data_sha256={str(own): sha256(own)})  # fmt: skip
    train_recipe(recipe_file, output)
    own.write_text(own.read_text().replace("0.1", "0.2"))
    with pytest.raises(InputError, match="not from the recipe tiny with the same data"):
        train_recipe(recipe_file, output)


def change(file, **entries):
    """Change some entries of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_damaged_weights_are_named_and_missing_ones_trained(copied):
    weights = copied[1].read_bytes()
    copied[1].write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(InputError, match=r"tiny\.safetensors: SHA-256 is .*, tiny\.json has"):
        train_recipe(*copied)
    copied[1].unlink()  # as if killed between card and weights
    with pytest.raises(RuntimeError, match="would train"):
        train_recipe(*copied)


def test_bad_outputs_are_refused_before_anything_else(copied, tmp_path, monkeypatch):
    recipe_file, _ = copied
    monkeypatch.setattr(training, "recipe_parts", None)  # nothing is read
    for name in ("m.json", "m", "m.safetensors.json", "safetensors", ".safetensors", "m.pt"):
        with pytest.raises(InputError, match=r"has to end in \.safetensors"):
            train_recipe(recipe_file, tmp_path / name)
    for folder in (recipe_file, recipe_file / "below", Path("/proc/none"), tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match=r"the folder cannot be made|cannot be written"):
            train_recipe(recipe_file, folder / "m.safetensors")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"mace": {"batch_size": 50}}, "tiny: batch_size 50 is more than 5 structures"),
        ({"group": "orgin"}, "tiny: no structure has the info entry 'orgin'"),
        ({"held_out": 7, "validation": 1}, "tiny: leaves no structure for the part training"),
        ({"datasets": ["embedded"], "group": "name"}, "training structure 0: has no energy and"),
        ({"datasets": ["nowhere.xyz"]}, r"nowhere\.xyz: no such file"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(tmp_path, monkeypatch, changes, cause):
    monkeypatch.setattr(mace, "trained", None)
    recipe_file, output = tiny(tmp_path, **changes)
    with pytest.raises(InputError, match=cause):
        train_recipe(recipe_file, output)
    assert not output.exists()


def test_a_data_set_twice_by_two_paths_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mace, "trained", None)
    tiny(tmp_path)
    shutil.copy(tmp_path / "data.xyz", tmp_path / "copy.xyz")
    twice = [str(tmp_path / "data.xyz"), str(tmp_path / "copy.xyz")]
    with pytest.raises(InputError, match="two of these data sets are the same"):
        train_recipe(*tiny(tmp_path, datasets=twice, validation=4))


@pytest.mark.parametrize("key", ["energy", "forces", "stress"])
def test_labels_that_are_no_numbers_are_refused(tmp_path, monkeypatch, key):
    monkeypatch.setattr(mace, "trained", None)
    recipe_file, output = tiny(tmp_path)
    crystals = read(tmp_path / "data.xyz", ":")
    for atoms in crystals:
        atoms.calc.results[key] = atoms.calc.results[key] * np.nan
    write(tmp_path / "data.xyz", crystals)
    with pytest.raises(InputError, match=f"structure 0: its {key} is not finite"):
        train_recipe(recipe_file, output)


def test_a_training_that_diverges_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(mace, "trained", lambda *given: load_model("mini-mace-base-s0").network)
    monkeypatch.setattr(training, "validation_curve", lambda results: [{"loss": float("nan")}])
    recipe_file, output = tiny(tmp_path)
    with pytest.raises(InputError, match="tiny: the training diverges"):
        train_recipe(recipe_file, output)
    assert {file.name for file in tmp_path.iterdir()} == {"data.xyz", "recipe.json"}


def test_structures_without_a_stress_can_be_trained_on(crystals):
    atoms = crystals[0].copy()
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((len(atoms), 3)))
    assert mace.labelled(atoms).info == {"REF_energy": 1.0}


def recipe(**changes):
    """A recipe over the embedded set, whose subsets stand in for groups."""
    return {
        "name": "test",
        "datasets": ["embedded"],
        "group": "name",
        "held_out": 50,
        "validation": 20,
        "split_seed": 0,
        "mace": {"lr": 0.01, "seed": 0},
    } | changes


def formulas(structures):
    return [a.get_chemical_formula() for a in structures]


def test_every_recipe_of_the_experiment_holds_out_the_same_structures():
    base = recipe_parts(recipe())
    for changes in (
        {"training": {"embedded": 100}},
        {"training": {"embedded": 100}, "only": "O"},
        {"training": {"embedded": 100}, "without": ["O", "F"], "max_atoms": 8},
    ):
        parts = recipe_parts(recipe(**changes))
        for name in ("held out", "validation"):
            assert formulas(parts[name]) == formulas(base[name])
        assert len(parts["training"]) == 100
        for atoms in parts["training"]:
            assert changes.get("only", atoms.symbols[0]) in atoms.symbols
            assert not set(changes.get("without", ())) & set(atoms.symbols)
            assert len(atoms) <= changes.get("max_atoms", 10**6)


def test_parts_are_disjoint():
    parts = recipe_parts(recipe())
    places = [a.positions.tobytes() + a.numbers.tobytes() for part in parts.values() for a in part]
    assert len(places) == len(set(places)) > 900
    names = [{a.info["name"] for a in part} for part in parts.values()]
    assert not names[2] & (names[0] | names[1])  # nor do prototypes straddle


def test_too_few_structures_are_named():
    with pytest.raises(InputError, match=r"embedded has \d+ structures to train on, not 5000"):
        recipe_parts(recipe(training={"embedded": 5000}))


def test_groups_do_not_straddle(crystals):
    for i, atoms in enumerate(copies := [a.copy() for a in crystals]):
        atoms.info["g"] = i % 2
    assert same_group(copies, np.array([0]), "g") == [0, 2]


@cache
def held_out_part(split: str) -> list:
    """The held-out structures of all recipes that split the same data in the same way."""
    return recipe_parts(json.loads(split))["held out"]


@pytest.mark.skipif(
    not os.environ.get("UMLIP_LATENTS_DATA"), reason="the public data are not at hand"
)
@pytest.mark.parametrize("path", CARDS if DEEP else CARDS[::3], ids=lambda path: path.stem)
def test_the_errors_of_a_shipped_card_reproduce(path):
    card = json.loads(path.read_text())
    split = {key: card["recipe"][key] for key in recipe() if key not in ("name", "mace")}
    held_out = held_out_part(json.dumps(split))
    errors = by_dataset(held_out, partial(model_errors, load_model(path.stem)))
    for name, expected in card["held_out_errors"].items():
        assert errors[name] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", ["mini-mace-mptrj", "mini-mace-base-s0"])
def test_a_shipped_mace_is_better_than_composition_alone(name):
    card = json.loads((DATA / "checkpoints" / f"{name}.json").read_text())
    errors, baseline = card["held_out_errors"], card["linear_baseline_errors"]
    for key in ("energy_mae_meV_per_atom", "force_rmse_meV_per_angstrom"):
        found, known = (np.mean([e[key] for e in d.values()]) for d in (errors, baseline))
        assert found < 0.8 * known, key


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_the_recipe_of_a_shipped_checkpoint_is_the_one_in_its_card(path):
    assert read_recipe(DATA / "recipes" / path.name) == json.loads(path.read_text())["recipe"]


def test_the_experiment_changes_one_thing_at_a_time():
    """Next to the seed a level changes the settings of its aspect, and how long that takes."""
    base = read_recipe(DATA / "recipes" / "mini-mace-base-s0.json")
    free = {"name", "description", "aspect", "level"}
    length = {"seed", "max_num_epochs", "lr_scheduler_gamma"}
    of_aspect = {
        "seed": set(),
        "data": {"training", "only", "without"},
        "loss": {"loss", "forces_weight", "stress_weight"},
        "optimiser": {"optimizer", "weight_decay", "lr", "ema"},
        "architecture": {"num_channels", "r_max", "num_interactions", "correlation"},
    }
    for path in (DATA / "recipes").glob("mini-mace-*-s?.json"):
        one = read_recipe(path)
        changed = {k for k in one if k != "mace" and one[k] != base.get(k)} - free
        changed |= {k for k in one["mace"] if one["mace"][k] != base["mace"].get(k)} - length
        assert changed <= of_aspect[one["aspect"]], path.stem


def test_the_shipped_checkpoints_stay_small():
    files = list((DATA / "checkpoints").glob("*.safetensors"))
    assert len(files) == len(CARDS)
    assert sum(f.stat().st_size for f in files) < 40 * 2**20
