"""Fine-tuning protocols and the labels they learn from."""

import itertools
import json
import runpy
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from umlip_latents import (
    extract_features,
    finetuning,
    global_reconstruction_error,
    load_model,
    load_structures,
    split_atoms,
)
from umlip_latents.finetuning import (
    PROTOCOLS,
    REPLAY,
    alignment,
    fine_tune,
    study_cases,
)
from umlip_latents.resources import DATA, InputError
from umlip_latents.splits import interleaved, split_by_origin
from umlip_latents.training import composition_baseline

label_with_gfn1_xtb = runpy.run_path(str(DATA / "structures" / "labelling.py"))[
    "label_with_gfn1_xtb"
]
SHORT = {"epochs": 3, "batch_size": 2, "learning_rate": 3e-4}


@pytest.fixture(scope="module")
def li3ps4():
    return load_structures("li3ps4-gfn1")


@pytest.fixture(scope="module")
def parts(li3ps4):
    return split_by_origin(li3ps4, 4, 3)


@pytest.fixture(scope="module")
def pretrained(models):
    return models["chgnet-0.3.0"]


def test_a_case_trains_on_what_it_accepts_and_holds_out_whole_trajectories(tmp_path, li3ps4):
    own, bare = tmp_path / "own.xyz", tmp_path / "bare.xyz"
    lone = Atoms("He", calculator=SinglePointCalculator(Atoms("He"), energy=0, forces=[[0, 0, 0]]))
    bulk = [a.copy() for a in li3ps4[:14]]
    for new, atoms in zip(bulk, li3ps4, strict=False):
        del new.info["origin"]
        new.calc = SinglePointCalculator(new, **atoms.calc.results)
    write(own, [*bulk, lone])
    write(bare, [a.copy() for a in li3ps4[:14]])
    sizes = {"n_training": 40, "n_test": 2, "n_held_out": 40}
    models = ["chgnet-0.3.0", "element"]
    cases, left_out = study_cases(models, ["li3ps4-gfn1", str(own), str(bare)], **sizes)
    assert list(cases) == [("chgnet-0.3.0", "li3ps4-gfn1"), ("chgnet-0.3.0", str(own))]
    case = cases["chgnet-0.3.0", "li3ps4-gfn1"]
    assert not {a.info["origin"] for a in case.training} & set(case.origins)
    assert (len(case.training), len(case.held_out)) == (40, 40)
    case = cases["chgnet-0.3.0", str(own)]
    assert (len(case.training), len(case.held_out), len(set(case.origins))) == (9, 5, 5)
    assert case.test == case.held_out[:2]
    refused, unlabelled, untrainable = left_out
    assert "chgnet-0.3.0 refuses 1 of its 15 structures" in refused
    assert "bare.xyz, structure 0: has no energy and forces" in unlabelled
    assert untrainable.startswith("element: only")


@pytest.fixture(scope="module")
def runs(parts, pretrained, tmp_path_factory):
    cache = tmp_path_factory.mktemp("runs")
    return {p: fine_tune(pretrained, *parts, p, cache=cache, **SHORT) for p in PROTOCOLS}


def features(run, epoch, structures, layer="backbone"):
    return extract_features(structures, run.model(epoch), layer, progress=False).features


def backbone(model):
    """The weights that are no part of the readout."""
    weights = model.network.named_parameters()
    return {name: weight for name, weight in weights if not name.startswith(model.readout)}


def test_the_target_set_is_what_its_entry_says(li3ps4):
    assert len(li3ps4) >= 200
    assert {len(a) for a in li3ps4} == {32}
    assert {a.get_chemical_formula(empirical=True) for a in li3ps4} == {"Li3PS4"}
    assert {a.info["polymorph"] for a in li3ps4} == {"alpha", "beta", "gamma"}
    sizes = np.unique([a.info["origin"] for a in li3ps4], return_counts=True)[1]
    assert sizes.max() < len(li3ps4) / 20
    for atoms in li3ps4:
        distance = atoms.get_all_distances(mic=True)
        bonds = np.sort(distance[atoms.numbers == 15][:, atoms.numbers == 16], axis=1)
        assert bonds[:, 3].max() < 2.85 < bonds[:, 4].min(), atoms.info  # PS4 tetrahedra
        assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-3


def test_the_target_labels_are_those_of_gfn1_xtb(li3ps4):
    atoms = li3ps4[100]
    again = label_with_gfn1_xtb([atoms])[0]
    assert again.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    assert again.get_forces() == pytest.approx(atoms.get_forces(), abs=1e-4)
    assert again.get_stress() == pytest.approx(atoms.get_stress(), abs=1e-5)
    step, pair = 2e-3, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 1] += sign * step
        pair.append(label_with_gfn1_xtb([moved])[0].get_potential_energy())
    slope = -(pair[0] - pair[1]) / (2 * step)
    assert atoms.get_forces()[0, 1] == pytest.approx(slope, abs=2e-3)


def test_no_origin_is_on_both_sides(li3ps4):
    training, test = split_by_origin(li3ps4, 60, 40, seed=3)
    assert (len(training), len(test)) == (60, 40)
    assert not {a.info["origin"] for a in training} & {a.info["origin"] for a in test}
    assert split_by_origin(li3ps4, 20, 40, seed=3)[0] == training[:20]
    everything = split_by_origin(li3ps4, 1000, 1000)
    assert sum(map(len, everything)) == len(li3ps4)
    with pytest.raises(InputError, match="of 1 origins: two are needed"):
        split_by_origin(li3ps4[:4], 2, 2)
    assert interleaved([[1, 2, 3], [4], [5, 6]]) == [1, 4, 5, 2, 6, 3]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_lowers_the_force_error(runs, protocol):
    history = runs[protocol].history
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert history["force"].iloc[-1] < history["force"].iloc[0]


def test_every_epoch_of_a_trained_backbone_is_another(runs, li3ps4):
    for protocol in ("full fine-tuning", "full transfer learning", "bespoke"):
        steps = [features(runs[protocol], e, li3ps4[:2]) for e in range(4)]
        for one, other in itertools.pairwise(steps):
            assert np.abs(one - other).max() > 1e-5


def test_a_frozen_backbone_has_no_reconstruction_error_and_its_readout_moves(
    runs, li3ps4, pretrained
):
    some = li3ps4[:6]
    before = extract_features(some, pretrained, progress=False)
    train, test = split_atoms(before.n_atoms, 32, by="structure")
    for protocol in ("heads fine-tuning", "heads transfer learning"):
        after = features(runs[protocol], 3, some)
        assert after == pytest.approx(before.features, rel=1e-4, abs=1e-5)
        assert global_reconstruction_error(before.features, after, train, test) < 1e-6
        steps = [features(runs[protocol], e, some, "last") for e in range(4)]
        for one, other in itertools.pairwise(steps):
            assert np.abs(one - other).max() > 1e-5


@pytest.mark.parametrize("task", ["ef", "efs"])
def test_one_backward_pass_gives_what_the_two_of_chgnet_give(task, crystals, li3ps4):
    model = load_model("chgnet-0.3.0")  # of one's own: its gradients are looked at
    graphs = [model.prepare(atoms) for atoms in (*crystals, li3ps4[0])]
    gradients, values = [], []
    for found in (
        model.network(graphs, task=task),
        model.derivatives(graphs, task, to_train=True),
    ):
        values.append([x.detach().numpy() for key in task for x in found[key]])
        model.network.zero_grad()
        sum(x.square().mean() for key in task for x in found[key]).backward()
        gradients.append([w.grad for w in model.network.mlp.parameters()])
    for library, here in zip(*values, strict=True):
        assert here == pytest.approx(library, rel=1e-4, abs=1e-5)
    for library, here in zip(*gradients, strict=True):
        assert torch.allclose(here, library, rtol=1e-3, atol=1e-4 * library.abs().max())


def test_what_starts_afresh_and_what_does_not(runs, pretrained):
    kept = pretrained.network.state_dict()
    for protocol, run in runs.items():
        start = run.model(0).network.state_dict()
        for name, old in (("mlp.layers.0.weight", "fine-tuning"),
                          ("atom_embedding.embedding.weight", "n")):  # fmt: skip
            same = old in protocol and protocol != "bespoke"
            assert torch.equal(start[name], kept[name]) == same, (protocol, name)
    assert load_model("chgnet-0.3.0").fingerprint == pretrained.fingerprint


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    runs, parts, pretrained, tmp_path, monkeypatch
):
    def stop(run, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        record(run, epoch, *rest)

    record = finetuning.record
    arguments = (pretrained, *parts, "full fine-tuning")
    monkeypatch.setattr(finetuning, "record", stop)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(*arguments, cache=tmp_path, **SHORT)
    monkeypatch.undo()
    again = fine_tune(*arguments, cache=tmp_path, **SHORT)
    assert contents(again.folder) == contents(runs["full fine-tuning"].folder)


def test_a_batch_is_no_larger_than_the_training_part(parts, pretrained, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        type(pretrained), "train_on", lambda self, course: seen.append(course) or ()
    )
    fine_tune(pretrained, parts[0][:1], parts[1], "full fine-tuning", cache=tmp_path, **SHORT)
    assert seen[0].batch_size == 1


def test_a_finished_run_is_read_and_a_changed_recipe_is_another_run(
    runs, parts, pretrained, monkeypatch
):
    run = runs["full fine-tuning"]

    def would_train(self, course):
        raise RuntimeError("would train")

    monkeypatch.setattr(type(pretrained), "train_on", would_train)
    again = fine_tune(pretrained, *parts, run.protocol, cache=run.folder.parent, **SHORT)
    assert again.history.equals(run.history)
    other = {**SHORT, "learning_rate": 1e-4}
    with pytest.raises(RuntimeError, match="would train"):
        fine_tune(pretrained, *parts, run.protocol, cache=run.folder.parent, **other)
    assert json.loads((run.folder / "recipe.json").read_text())["epochs"] == 3


def test_mace_torch_follows_the_protocols(models, parts, tmp_path):
    start = models["mini-mace-mptrj"]
    replay = load_structures("li3ps4-gfn1")[-4:]
    shared = {"cache": tmp_path, "epochs": 2, "batch_size": 2, "learning_rate": 5e-3}
    before = extract_features(parts[1], start, progress=False).features
    for protocol in ("heads transfer learning", "full fine-tuning", REPLAY):
        extra = {"replay": replay} if protocol == REPLAY else {}
        run = fine_tune(start, *parts, protocol, **shared, **extra)
        steps = [features(run, e, parts[1]) for e in range(3)]
        assert steps[0] == pytest.approx(before, rel=1e-4, abs=1e-5)
        moves = [np.abs(one - other).max() for one, other in itertools.pairwise(steps)]
        if "heads" in protocol:
            weights = backbone(run.model(0))
            assert all(torch.equal(v, weights[k]) for k, v in backbone(run.model(2)).items())
        else:
            assert min(moves) > 1e-5
        history = run.history
        assert history["force"].iloc[-1] < history["force"].iloc[0]
        assert history["energy"].max() < 300  # meV/atom: aligned before and after
        assert not list(run.folder.rglob("*.model"))
    replayed = run.model(2)
    assert (len(replayed.heads), replayed.head) == (2, "Default")  # a second readout, not read
    assert replayed.widths == start.widths
    with pytest.raises(InputError, match="Multi-head replay needs"):
        fine_tune(models["chgnet-0.3.0"], *parts, REPLAY, replay=replay, **shared)
    with pytest.raises(InputError, match="Multi-head replay needs"):
        fine_tune(start, *parts, REPLAY, **shared)


def test_an_interrupted_mace_run_starts_again_and_ends_the_same(models, parts, tmp_path):
    arguments = (models["mini-mace-mptrj"], *parts, "full fine-tuning")
    shared = {"cache": tmp_path, "epochs": 2, "batch_size": 2, "learning_rate": 5e-3}
    run = fine_tune(*arguments, **shared)
    before = contents(run.folder)
    for file in (finetuning.errors_file(run.folder, 2), finetuning.weights_file(run.folder, 2)):
        file.unlink()
    fine_tune(*arguments, **shared)
    assert contents(run.folder) == before


def test_alignment_takes_off_the_mean_error(parts, pretrained):
    model = finetuning.starting_model(pretrained, "full fine-tuning", 0)
    model.shift_elements(alignment(model, parts[0]))
    errors = [a.get_potential_energy() / len(a) - model.energy_and_forces(a)[0] for a in parts[0]]
    assert np.mean(errors) == pytest.approx(0, abs=1e-4)
    assert np.std(errors) > 1e-3


def test_bad_input_is_refused(models, li3ps4, tmp_path):
    model = models["chgnet-0.3.0"]
    with pytest.raises(InputError, match="no such protocol"):
        fine_tune(model, li3ps4[:1], li3ps4[1:2], "magic", cache=tmp_path, epochs=1)
    with pytest.raises(InputError, match="only a CHGNet or a MACE"):
        fine_tune(models["element"], li3ps4[:1], li3ps4[1:2], "bespoke", cache=tmp_path, epochs=1)
    bare = [li3ps4[0], li3ps4[1].copy()]
    with pytest.raises(InputError, match="training structure 1: has no energy"):
        fine_tune(model, bare, li3ps4[:1], "bespoke", cache=tmp_path, epochs=1)
    with pytest.raises(InputError, match="needs an epoch"):
        fine_tune(model, bare, [], "bespoke", cache=tmp_path, epochs=1)
    assert not list(tmp_path.iterdir())


def test_alignment_solves_a_linear_world(crystals):
    class Constant:
        """A model that has the same energy for every atom."""

        def energy_and_forces(self, atoms):
            return 0.5, np.zeros((len(atoms), 3))

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
    found = alignment(Constant(), world)
    energies = [a.get_potential_energy() for a in world]
    assert [(0.5 + found[a.numbers]).sum() for a in world] == pytest.approx(energies)
    assert not found[~np.isin(np.arange(119), np.concatenate([a.numbers for a in world]))].any()
    assert composition_baseline(world, world)["energy_mae_meV_per_atom"] < 1e-6


@pytest.fixture
def copied(runs, tmp_path, parts, pretrained):
    """A copy of a finished run of CHGNet, and a call that repeats it there."""
    folder = tmp_path / runs["full fine-tuning"].folder.name
    shutil.copytree(runs["full fine-tuning"].folder, folder)
    arguments = (pretrained, *parts, "full fine-tuning")
    return folder, lambda: fine_tune(*arguments, cache=tmp_path, **SHORT)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def flipped(file):
    """Change a bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def other_errors(folder):
    file = finetuning.errors_file(folder, 2)
    found = json.loads(file.read_text())
    found["errors"][0]["energy"] /= 2
    file.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flipped(finetuning.weights_file(folder, 2)),
        lambda folder: finetuning.weights_file(folder, 2).unlink(),
        lambda folder: shutil.copy(
            finetuning.weights_file(folder, 1), finetuning.weights_file(folder, 2)
        ),
        lambda folder: finetuning.errors_file(folder, 2).write_text("{"),
        lambda folder: finetuning.errors_file(folder, 2).write_text('[{"energy": 1}]'),
        lambda folder: finetuning.errors_file(folder, 2).write_bytes(b"\xff"),
        other_errors,
    ],
)
def test_a_damaged_epoch_is_named_and_trained_again(copied, monkeypatch, pretrained, damage):
    folder, repeat = copied
    damage(folder)
    seen = []
    monkeypatch.setattr(
        type(pretrained), "train_on", lambda self, course: seen.append(course.first) or ()
    )
    with pytest.warns(UserWarning, match=r"errors-002\.json: epoch 2 is damaged or of another"):
        repeat()
    # the moments of Adam are those of the last epoch alone
    assert seen == [0]
    assert [finetuning.errors_file(folder, e).exists() for e in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_the_epochs_of_another_run_are_not_used(runs, copied, monkeypatch, pretrained):
    folder, repeat = copied
    for file in runs["bespoke"].folder.iterdir():  # planted: whole and consistent, but not this run
        shutil.copy(file, folder)
    monkeypatch.setattr(type(pretrained), "train_on", lambda self, course: ())
    with pytest.warns(UserWarning, match=r"errors-000\.json: epoch 0 is damaged or of another run"):
        repeat()
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["protocol"] == "full fine-tuning"


def test_a_damaged_run_ends_as_it_was(runs, copied):
    folder, repeat = copied
    flipped(finetuning.weights_file(folder, 3))
    (folder / "optimizer-002.safetensors").write_bytes(b"planted")
    with pytest.warns(UserWarning, match="epoch 3 is damaged"):
        repeat()
    assert contents(folder) == contents(runs["full fine-tuning"].folder)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    repeat()
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_cache_that_cannot_be_written_is_named(parts, pretrained, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="the folder cannot be made"):
        fine_tune(pretrained, *parts, "bespoke", cache=tmp_path / "file", **SHORT)


def test_changed_data_are_another_run(copied, parts, monkeypatch, pretrained):
    folder, _ = copied
    training = [a.copy() for a in parts[0]]
    for atoms, old in zip(training, parts[0], strict=True):
        results = old.calc.results | {"energy": old.get_potential_energy() + 1e-6}
        atoms.calc = SinglePointCalculator(atoms, **results)
    seen = []
    monkeypatch.setattr(type(pretrained), "train_on", lambda self, course: seen.append(1) or ())
    run = fine_tune(
        pretrained, training, parts[1], "full fine-tuning", cache=folder.parent, **SHORT
    )
    assert seen
    assert run.folder != folder
