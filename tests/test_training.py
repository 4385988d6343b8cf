"""Training: recipes, fine-tuning protocols, labels."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from umlip_latents import extract_features, load_model, load_structures
from umlip_latents.resources import DATA, InputError
from umlip_latents.training import (
    at_epoch,
    composition_baseline,
    element_energies,
    fine_tune_chgnet,
    label_with_gfn1_xtb,
    mace_errors,
    rattled_crystal,
    same_group,
    split_structures,
    train_mace,
)

SHORT = {"epochs": 3, "batch_size": 1, "learning_rate": 3e-4}
CARD = json.loads((DATA / "checkpoints" / "book-mace-mptrj.json").read_text())


@pytest.fixture(scope="module")
def labelled():
    return label_with_gfn1_xtb(rattled_crystal("LiF", 5, seed=3))


@pytest.fixture(scope="module")
def runs(labelled, models):
    network = models["chgnet-0.3.0"].network
    return {
        protocol: fine_tune_chgnet(network, labelled[:4], labelled[4:], protocol, **SHORT)
        for protocol in ("full fine-tuning", "heads fine-tuning", "bespoke")
    }


def test_labels_are_consistent(labelled):
    atoms = labelled[0]
    assert atoms.get_forces().sum(axis=0) == pytest.approx(0, abs=1e-4)
    step = 2e-3
    pair = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 1] += sign * step
        pair.append(label_with_gfn1_xtb([moved])[0].get_potential_energy())
    slope = -(pair[0] - pair[1]) / (2 * step)
    assert atoms.get_forces()[0, 1] == pytest.approx(slope, abs=2e-3)


def test_crystals_are_distorted_copies_of_the_real_one():
    found = rattled_crystal("Li2S", 30, seed=0)
    assert {a.get_chemical_formula(empirical=True) for a in found} == {"Li2S"}
    volumes = [a.get_volume() for a in found]
    assert np.mean(volumes) == pytest.approx(5.72**3, rel=0.05)
    assert np.std(volumes) > 1
    with pytest.raises(InputError, match="no such crystal"):
        rattled_crystal("XeF", 1)


def test_training_lowers_the_error(runs):
    for protocol in ("full fine-tuning", "bespoke"):
        assert runs[protocol].force_mae[-1] < runs[protocol].force_mae[0]


def test_every_epoch_of_a_trained_backbone_is_another(runs, labelled, models):
    network = models["chgnet-0.3.0"].network
    for protocol in ("full fine-tuning", "bespoke"):
        steps = [
            extract_features(
                labelled, at_epoch(runs[protocol], network, e), progress=False
            ).features
            for e in range(4)
        ]
        for one, other in itertools.pairwise(steps):
            assert np.abs(one - other).max() > 1e-5


def test_a_frozen_backbone_stays_and_its_last_layer_moves(runs, labelled, models):
    network = models["chgnet-0.3.0"].network
    final = at_epoch(runs["heads fine-tuning"], network, 3)
    for layer, same in (("backbone", True), ("last", False)):
        before = extract_features(labelled, models["chgnet-0.3.0"], layer, progress=False).features
        after = extract_features(labelled, final, layer, progress=False).features
        assert np.array_equal(before, after) == same


def test_epoch_zero_is_the_pretrained_network_and_it_is_not_changed(runs, labelled, models):
    fresh = load_model("chgnet-0.3.0")
    assert fresh.fingerprint == models["chgnet-0.3.0"].fingerprint
    for key, value in runs["full fine-tuning"].states[0].items():
        assert torch.equal(value, fresh.network.state_dict()[key]), key


def test_bespoke_starts_elsewhere(runs):
    one, other = runs["bespoke"].states[0], runs["full fine-tuning"].states[0]
    assert not torch.equal(one["atom_embedding.embedding.weight"],
                           other["atom_embedding.embedding.weight"])  # fmt: skip


def test_fine_tuning_is_reproducible(runs, labelled, models):
    network = models["chgnet-0.3.0"].network
    again = fine_tune_chgnet(network, labelled[:4], labelled[4:], "full fine-tuning", **SHORT)
    assert again.energy_mae == pytest.approx(runs["full fine-tuning"].energy_mae, rel=1e-3)


def test_unknown_protocols_are_refused(models, labelled):
    with pytest.raises(InputError, match="no such protocol"):
        fine_tune_chgnet(models["chgnet-0.3.0"].network, labelled, labelled, "magic", epochs=1)


def test_element_energies_solve_a_linear_world(crystals):
    truth = np.zeros(120)
    truth[[11, 14, 17, 22, 38, 8]] = [-1.5, -4, -2, -7, -3, -6]
    world = []
    for atoms in crystals:
        copied = atoms.copy()
        energy = truth[atoms.numbers].sum()
        copied.calc = SinglePointCalculator(
            copied, energy=energy, forces=np.zeros((len(atoms), 3)), stress=np.zeros(6)
        )
        world.append(copied)
    found = element_energies(world)
    for atoms in world:
        assert found[atoms.numbers].sum() == pytest.approx(atoms.get_potential_energy())
    assert composition_baseline(world, world)["energy_mae_meV_per_atom"] < 1e-6


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

    crystals = label_with_gfn1_xtb(rattled_crystal("LiF", 12, seed=4))
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
