"""Training from recipes, and the cards of the shipped checkpoints."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from umlip_latents import load_model, load_structures
from umlip_latents.resources import DATA, InputError
from umlip_latents.structures import split_structures
from umlip_latents.training import mace_errors, same_group, train_mace

CARD = json.loads((DATA / "checkpoints" / "book-mace-mptrj.json").read_text())


@pytest.mark.parametrize("content", [None, "{", '{"name": "x"}'])
def test_unusable_recipes_are_refused(tmp_path, content):
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="not a usable recipe"):
        train_mace(path, tmp_path / "out.safetensors")
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
    card = train_mace(tmp_path / "recipe.json", tmp_path / "tiny.safetensors")
    assert card["n_structures"]["held out"] == 3
    assert card["n_structures"]["training"] + card["n_structures"]["validation"] <= 9
    model = load_model(tmp_path / "tiny.safetensors")
    held_out = split_structures(load_structures(tmp_path / "data.xyz"), (3, 2), 0)[0]
    errors = mace_errors(
        model.network, [load_structures(tmp_path / "data.xyz")[i] for i in held_out]
    )
    assert errors == pytest.approx(card["held_out_errors"], rel=1e-4)
    assert len(card["validation_curve"]) >= 2


def test_groups_do_not_straddle(crystals):
    for i, atoms in enumerate(copies := [a.copy() for a in crystals]):
        atoms.info["g"] = i % 2
    assert same_group(copies, np.array([0]), "g") == [0, 2]


@pytest.mark.skipif(
    not os.environ.get("UMLIP_LATENTS_DATA"), reason="the public data are not at hand"
)
def test_the_card_of_the_shipped_mace_reproduces():
    recipe = CARD["recipe"]
    structures = [a for name in recipe["datasets"] for a in load_structures(name)]
    sizes = (recipe["held_out"], recipe["validation"])
    held_out = split_structures(structures, sizes, recipe["split_seed"])[0]
    network = load_model("book-mace-mptrj").network
    errors = mace_errors(network, [structures[i] for i in held_out])
    assert errors == pytest.approx(CARD["held_out_errors"], rel=0.01)


def test_the_shipped_mace_is_better_than_composition_alone():
    errors, baseline = CARD["held_out_errors"], CARD["linear_baseline_errors"]
    for key in ("energy_mae_meV_per_atom", "force_rmse_meV_per_angstrom"):
        assert errors[key] < 0.8 * baseline[key], key


def test_the_shipped_recipe_is_the_one_in_the_card():
    path = Path(DATA / "recipes" / "book-mace-mptrj.json")
    assert json.loads(path.read_text()) == CARD["recipe"]
