"""Training from recipes, and the cards of the shipped checkpoints."""

import json
import os
from functools import cache, partial

import numpy as np
import pytest

from umlip_latents import load_model, load_structures
from umlip_latents.resources import DATA, InputError
from umlip_latents.training import (
    by_dataset,
    model_errors,
    read_recipe,
    recipe_parts,
    same_group,
    train_recipe,
)

CARDS = sorted((DATA / "checkpoints").glob("*.json"))
CARD = json.loads((DATA / "checkpoints" / "mini-mace-mptrj.json").read_text())


@pytest.mark.parametrize("content", [None, "{", '{"name": "x"}'])
def test_unusable_recipes_are_refused(tmp_path, content):
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="not a usable recipe"):
        train_recipe(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_tiny_recipe_trains_and_loads(tmp_path):
    """The whole road from recipe to shipped checkpoint, on a handful of labelled crystals."""
    from ase.io import write

    crystals = load_structures("li3ps4-gfn1")[::20]
    for i, atoms in enumerate(crystals):
        atoms.info["origin"] = i // 2
    write(tmp_path / "data.xyz", crystals)
    mace = {**CARD["recipe"]["mace"], "num_channels": 4, "max_num_epochs": 2, "E0s": "average"}
    recipe = {
        "name": "tiny",
        "datasets": [str(tmp_path / "data.xyz")],
        "group": "origin",
        "held_out": 3,
        "validation": 2,
        "split_seed": 0,
        "mace": {**mace, "r_max": 4.0},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    card = train_recipe(tmp_path / "recipe.json", tmp_path / "tiny.safetensors")
    assert card["n_structures"]["held out"] == 3
    assert card["n_structures"]["training"] + card["n_structures"]["validation"] <= 9
    assert card["trained_elements"] == ["Li", "P", "S"]
    model = load_model(tmp_path / "tiny.safetensors")
    parts = recipe_parts(recipe)
    errors = model_errors(model, parts["held out"])
    assert errors == pytest.approx(card["held_out_errors"][str(tmp_path / "data.xyz")], rel=1e-4)
    assert [e["epoch"] for e in card["validation_curve"]] == [None, 0, 1]
    recipe["mace"]["learning_rat"] = 0.1
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="no argument learning_rat"):
        train_recipe(tmp_path / "recipe.json", tmp_path / "other.safetensors")


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


def test_a_recipe_inherits_and_shows_only_its_change(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(recipe()))
    changed = {"extends": "base.json", "name": "other", "mace": {"lr": 0.1}}
    (tmp_path / "other.json").write_text(json.dumps(changed))
    found = read_recipe(tmp_path / "other.json")
    assert found == recipe(name="other", mace={"lr": 0.1, "seed": 0})


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
    everything = load_structures("embedded")
    assert len(places) == len(everything)
    assert len(set(places)) == len(
        {a.positions.tobytes() + a.numbers.tobytes() for a in everything}
    )


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
@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
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
