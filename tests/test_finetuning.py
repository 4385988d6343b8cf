"""Fine-tuning protocols and the labels they learn from."""

import itertools

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from umlip_latents import extract_features, load_model
from umlip_latents.finetuning import at_epoch, element_energies, fine_tune_chgnet
from umlip_latents.labelling import label_with_gfn1_xtb, rattled_crystal
from umlip_latents.resources import InputError
from umlip_latents.training import composition_baseline

SHORT = {"epochs": 3, "batch_size": 1, "learning_rate": 3e-4}


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
