"""Recipes: what they may hold, what they inherit, and the structures that they name."""

import json

import numpy as np
import pytest
from ase.io import write

from umlip_latents.resources import DATA, InputError
from umlip_latents.training.recipes import MACE_ARGUMENTS, read_recipe, recipe_parts

MACE = {"seed": 0, "model": "ScaleShiftMACE", "E0s": "average", "max_num_epochs": 1}
RECIPE = {
    "name": "test",
    "datasets": ["embedded"],
    "group": "name",
    "held_out": 50,
    "validation": 20,
    "split_seed": 0,
    "mace": MACE,
}
BAD = {
    "misspelt": (RECIPE | {"held_outt": 1}, "held_outt: Extra inputs are not permitted"),
    "too small": (RECIPE | {"held_out": 0}, r"held_out: .* greater than 0 \(given: 0\)"),
    "not finite": (RECIPE | {"mace": MACE | {"lr": float("inf")}}, "mace.lr: .* finite number"),
    "no element": (RECIPE | {"without": ["O", "Xx"]}, r"without.1: .*'H', 'He'.* \(given: 'Xx'\)"),
    "a model to unpickle": (
        RECIPE | {"mace": MACE | {"foundation_model": "evil.model"}},
        "mace.foundation_model: Input should be",
    ),
    "a file to read": (RECIPE | {"mace": MACE | {"E0s": "a.json"}}, "its model and E0s must be"),
    "no such loss": (RECIPE | {"mace": MACE | {"loss": "magic"}}, "loss: invalid choice: 'magic'"),
    "a list": ([], "is not a usable recipe"),
    "not JSON": ("{name: x}", "Expecting property name"),
    "extends itself": (RECIPE | {"extends": "recipe.json"}, "is not a usable recipe"),
    "extends nothing": (RECIPE | {"extends": "none.json"}, r"No such file .*none\.json"),
    "extends a bad one": ({"extends": "bad.json"}, r"mace.r_max: .* \(given: -1\)"),
}


@pytest.mark.parametrize(("content", "cause"), BAD.values(), ids=BAD)
def test_a_bad_recipe_is_refused_in_one_sentence(tmp_path, content, cause):
    path = tmp_path / "recipe.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "bad.json").write_text(json.dumps(RECIPE | {"mace": MACE | {"r_max": -1}}))
    with pytest.raises(InputError, match=cause) as refused:
        read_recipe(path)
    assert str(refused.value).startswith(str(tmp_path))
    assert str(refused.value).isprintable()


def test_a_recipe_is_whole_with_what_it_extends(tmp_path):
    base = {key: value for key, value in RECIPE.items() if key != "group"}
    (tmp_path / "base.json").write_text(json.dumps(base))
    changes = {"group": "origin", "name": "n", "mace": {"seed": 4}}
    (tmp_path / "one.json").write_text(json.dumps(changes | {"extends": "base.json"}))
    found = read_recipe(tmp_path / "one.json").model_dump(exclude_unset=True)
    assert found == RECIPE | changes | {"mace": MACE | {"seed": 4}}
    (tmp_path / "two.json").write_text(json.dumps({"name": "m", "extends": "one.json"}))
    assert read_recipe(tmp_path / "two.json").model_dump(exclude_unset=True) == found | {
        "name": "m"
    }
    with pytest.raises(InputError, match=r"base\.json: group: Field required"):
        read_recipe(tmp_path / "base.json")


def test_nothing_in_a_recipe_names_a_file_a_device_or_a_model_to_the_trainer():
    from mace.tools import build_default_arg_parser

    arguments = {action.dest for action in build_default_arg_parser()._actions}
    words = ("file", "dir", "model_", "device", "checkpoint", "restart", "foundation", "wandb")
    for key in MACE_ARGUMENTS.split():
        assert key in arguments
        assert key not in ("name", "config")
        assert not any(word in key for word in words)


def recipe(tmp_path, **changes):
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE | changes))
    return read_recipe(tmp_path / "recipe.json")


def test_parts_are_disjoint_and_whatever_is_trained_on_the_same_is_held_out(tmp_path):
    base = recipe_parts(recipe(tmp_path))
    places = [a.positions.tobytes() + a.numbers.tobytes() for part in base.values() for a in part]
    assert len(places) == len(set(places)) > 900
    names = {part: {atoms.info["name"] for atoms in found} for part, found in base.items()}
    assert not names["held out"] & (names["training"] | names["validation"])
    for changes in ({"only": "O"}, {"without": ["O", "F"], "max_atoms": 8}):
        parts = recipe_parts(recipe(tmp_path, training={"embedded": 100}, **changes))
        assert parts["held out"] == base["held out"]
        assert parts["validation"] == base["validation"]
        assert len(parts["training"]) == 100
        for atoms in parts["training"]:
            assert changes.get("only", atoms.symbols[0]) in atoms.symbols
            assert not set(changes.get("without", ())) & set(atoms.symbols)
            assert len(atoms) <= changes.get("max_atoms", len(atoms))


def test_labels_may_have_another_name(tmp_path, metals):
    for atoms in (renamed := [atoms.copy() for atoms in metals]):
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = 4.0, np.ones((4, 3))
    write(tmp_path / "data.xyz", renamed)
    changes = {"group": "origin", "held_out": 1, "validation": 1, "energy_key": "REF_energy"}
    parts = recipe_parts(recipe(tmp_path, datasets=[str(tmp_path / "d*.xyz@:")], **changes))
    assert [a.get_potential_energy() for part in parts.values() for a in part] == [4.0] * 7


def test_parts_that_there_are_not_are_named(tmp_path):
    bad = {
        "no structure has the info entry 'orgin'": {"group": "orgin"},
        "leaves no structure for the part validation": {"held_out": 900, "validation": 900},
        "too few structures to train on in embedded": {"training": {"embedded": 5000}},
        "too few structures to train on in other": {"training": {"other": 1}},
    }
    for cause, changes in bad.items():
        with pytest.raises(InputError, match=f"test: {cause}"):
            recipe_parts(recipe(tmp_path, **changes))


def test_shipped_recipes_are_those_in_the_cards_and_change_one_thing_at_a_time():
    """Next to the seed a level changes the settings of its aspect, and how long that takes."""
    base = read_recipe(DATA / "recipes" / "mini-mace-base-s0.json").model_dump(exclude_unset=True)
    free = {"name", "description", "aspect", "level"}
    length = {"seed", "max_num_epochs", "lr_scheduler_gamma"}
    of_aspect = {
        "seed": set(),
        "data": {"training", "only", "without"},
        "loss": {"loss", "forces_weight", "stress_weight"},
        "optimiser": {"optimizer", "weight_decay", "lr", "ema"},
        "architecture": {"num_channels", "r_max", "num_interactions", "correlation"},
    }
    for path in sorted((DATA / "recipes").glob("*.json")):
        one = read_recipe(path).model_dump(exclude_unset=True)
        card = json.loads((DATA / "checkpoints" / path.name).read_text())
        assert one == card["recipe"]
        assert one["name"] == path.stem
        if "aspect" in one:
            changed = {k for k in one if k != "mace" and one[k] != base.get(k)} - free
            changed |= {k for k in one["mace"] if one["mace"][k] != base["mace"].get(k)} - length
            assert changed <= of_aspect[one["aspect"]], path.stem
