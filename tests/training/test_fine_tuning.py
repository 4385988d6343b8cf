"""Fine-tuning protocols, their cache, and the labels of the target set."""

import runpy
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from umlip_latents import load_model, load_structures
from umlip_latents.models.chgnet import ChgnetModel
from umlip_latents.resources import DATA, InputError
from umlip_latents.training import fine_tuning
from umlip_latents.training.fine_tuning import PROTOCOLS, REPLAY, fine_tune, starting_model
from umlip_latents.training.plan import TrainingSettings, align_elements, prediction_errors

from .conftest import with_labels

CHGNET, MACE = "chgnet-0.3.0", "mini-mace-architecture-one-interaction-s0"
FIRST = {CHGNET: "atom_conv_layers.0", MACE: "interactions"}
PARTLY = ("layer freezing", "LoRA")
SHORT = TrainingSettings(epochs=2, batch_size=2, learning_rate=3e-4)


@pytest.fixture(scope="module")
def runs(metals, tmp_path_factory):
    """A run of every protocol and family, by both."""
    cache, found = tmp_path_factory.mktemp("runs"), {}
    jobs = [(CHGNET, p) for p in PROTOCOLS if p != REPLAY]
    jobs += [(MACE, p) for p in ("heads transfer learning", "full fine-tuning", REPLAY, *PARTLY)]
    for name, protocol in jobs:
        how = protocol, replace(SHORT, learning_rate=0.1 if protocol == "LoRA" else 3e-4)
        options = {"cache": cache, "replay": metals[:2] if protocol == REPLAY else ()}
        found[name, protocol] = fine_tune(name, metals[:4], metals[4:], *how, **options)
    return found


def weights(model, *, of_readout):
    """The weights of the readout, or all others but the energies of the elements."""
    named = model.network.named_parameters()
    named = {n: w for n, w in named if not n.startswith("composition")}
    return {n: w for n, w in named.items() if n.startswith(model.readout) == of_readout}


def test_a_protocol_redraws_and_trains_what_its_name_says(runs, models):
    for (name, protocol), run in runs.items():
        start, end = run.model(0), run.model(2)
        assert end.name == f"{protocol.replace(' ', '-')}-s0-epoch-002"
        for of_readout in (True, False):
            known, first, last = (
                weights(model, of_readout=of_readout) for model in (models[name], start, end)
            )
            kept = [torch.equal(w, known[n]) for n, w in first.items()]
            still = [torch.equal(w, last[n]) for n, w in first.items() if n in last]
            redrawn = protocol == "bespoke" or ("transfer" in protocol and of_readout)
            frozen = "heads" in protocol and not of_readout
            where = name, protocol, of_readout
            # but for weights that are always drawn alike, such as the frequencies of a basis
            assert np.mean(kept) < 0.1 if redrawn else all(kept), where
            most = 0.9 if protocol in PARTLY else 0.5
            assert all(still) if frozen else np.mean(still) < most, where


@pytest.mark.parametrize("name", FIRST)
def test_frozen_layers_stay_and_a_low_rank_is_low(runs, name):
    for protocol in PARTLY:
        start, end = (runs[name, protocol].model(e).network.state_dict() for e in (0, 2))
        change = {key: end[key] - start[key] for key in start if not end[key].equal(start[key])}
        assert any(key.startswith(FIRST[name]) for key in change) == (protocol == "LoRA")
        if protocol == "LoRA":
            sizes = [torch.linalg.svdvals(c) for c in change.values() if c.ndim == 2 and len(c) > 4]
            assert all(size[0] > 1e-3 > 1e-3 * size[0] > size[4:].sum() for size in sizes)


def test_fine_tuning_lowers_the_force_error_on_structures_it_has_not_seen(runs):
    for key in ((CHGNET, "full fine-tuning"), (CHGNET, "bespoke"), (MACE, "full fine-tuning")):
        history = runs[key].history
        assert history["epoch"].tolist() == [0, 1, 2]
        assert history["force"].iloc[-1] < history["force"].iloc[0]


def test_a_replay_adds_a_readout_that_is_not_read(runs, models):
    model = runs[MACE, REPLAY].model(2)
    assert (len(model.heads), model.head) == (2, "Default")
    assert model.widths == models[MACE].widths


@pytest.mark.parametrize("name", [CHGNET, MACE])
def test_the_alignment_takes_off_a_constant_per_element_exactly(models, metals, name):
    model = starting_model(models[name], "full fine-tuning", 0)
    shift, world = np.zeros(119), []
    shift[[13, 29]] = [-3.0, 1.5]
    for atoms in metals:
        energy = model.energy_and_forces(atoms)[0] * len(atoms) + shift[atoms.numbers].sum()
        world.append(with_labels(atoms, energy=energy, forces=atoms.get_forces()))
    align_elements(model, world)
    assert prediction_errors(model, world)["energy"].abs().max() < 1e-4


def test_one_backward_pass_gives_what_the_two_of_chgnet_give(crystals):
    model = load_model(CHGNET)  # of one's own: its gradients are looked at
    graphs = [model.prepare(atoms) for atoms in crystals]
    found = []
    model.network.train()
    for predict in (partial(model.network, task="efs"), model.derivatives):
        values = predict(graphs)
        model.network.zero_grad()
        sum(x.square().mean() for key in "efs" for x in values[key]).backward()
        gradients = [w.grad for w in model.network.mlp.parameters()]
        found.append([*(x.detach() for key in "efs" for x in values[key]), *gradients])
    for library, here in zip(*found, strict=True):
        assert torch.allclose(here, library, rtol=1e-3, atol=1e-4 * library.abs().max())


@pytest.fixture
def copied(runs, metals, models, tmp_path):
    """A copy of a finished run, and a call that repeats it there."""
    folder = tmp_path / runs[CHGNET, "full fine-tuning"].folder.name
    shutil.copytree(runs[CHGNET, "full fine-tuning"].folder, folder)

    def repeat(training=metals[:4], settings=SHORT):
        arguments = (models[CHGNET], training, metals[4:], "full fine-tuning", settings)
        return fine_tune(*arguments, cache=tmp_path)

    return folder, repeat


@pytest.fixture
def trained(monkeypatch):
    """The settings of the runs that would be trained."""
    runs = []
    fake = {ChgnetModel: lambda start, training, protocol, settings: runs.append(settings) or ()}
    monkeypatch.setattr(fine_tuning, "TRAINERS", fake)
    return runs


def test_a_finished_run_is_read_and_other_data_or_settings_are_another_run(
    runs, copied, metals, trained
):
    folder, repeat = copied
    assert repeat().history.equals(runs[CHGNET, "full fine-tuning"].history)
    assert not trained
    labels = metals[0].calc.results | {"energy": metals[0].get_potential_energy() + 1e-6}
    others = [repeat(training=[with_labels(metals[0], **labels), *metals[1:4]])]
    others += [repeat(settings=replace(SHORT, **new)) for new in ({"epochs": 1}, {"seed": 1})]
    assert others[-1].folder.name.startswith("full-fine-tuning-s1-")
    assert len({folder, *(run.folder for run in others)}) == len(trained) + 1 == 4


def test_an_interrupted_run_is_trained_again(copied, trained):
    folder, repeat = copied
    (folder / "errors.csv").unlink()
    assert repeat().folder == folder
    assert trained == [SHORT]


def test_bad_input_is_refused(models, metals, tmp_path):
    def tune(model=CHGNET, training=metals[:1], test=metals[1:2], protocol="bespoke", **options):
        fine_tune(models[model], training, test, protocol, SHORT, cache=tmp_path / "x", **options)

    bad = {
        "no such protocol": {"protocol": "magic"},
        "only a CHGNet or a MACE": {"model": "element"},
        "training structure 1: has no energy": {"training": [metals[0], metals[1].copy()]},
        "needs a training and a test structure": {"test": []},
        "replay needs a MACE": {"protocol": REPLAY, "replay": metals[:2]},
        "and structures for replay": {"model": MACE, "protocol": REPLAY},
    }
    for cause, arguments in bad.items():
        with pytest.raises(InputError, match=cause):
            tune(**arguments)
    for wrong in ({"epochs": 0}, {"epochs": 1, "batch_size": 0}, {"epochs": 1, "seed": -1}):
        with pytest.raises(InputError, match=f"{[*wrong][-1]} .*: must be"):
            TrainingSettings(**wrong)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="the folder cannot be made"):
        tune()


@pytest.mark.slow
def test_the_target_labels_are_those_of_gfn1_xtb():
    pytest.importorskip("tblite", reason="tblite labels structures anew: pip install .[labelling]")
    label = runpy.run_path(str(DATA / "structures" / "labelling.py"))["label_with_gfn1_xtb"]
    known = load_structures("li3ps4-gfn1")[100]
    (again,) = label([known])
    assert again.get_potential_energy() == pytest.approx(known.get_potential_energy())
    assert again.get_forces() == pytest.approx(known.get_forces(), abs=1e-4)
    assert again.get_stress() == pytest.approx(known.get_stress(), abs=1e-5)
