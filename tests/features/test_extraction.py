"""Structures through models: batches, workers, names, and what is left out."""

from functools import partial

import joblib
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from umlip_latents import (
    FeatureBlocks,
    extract_features,
    load_features,
    load_structures,
)
from umlip_latents.features import computing
from umlip_latents.features.extraction import features_by_layer
from umlip_latents.models.environments import RemoteModel
from umlip_latents.resources import InputError

from .positions import Deadly, Positions, clusters

NETWORKS = ("mini-mace-base-s0", "chgnet-0.3.0")


def close_to(expected):
    """Equal to 1e-5 of the largest feature."""
    return pytest.approx(expected, rel=1e-5, abs=float(1e-5 * np.abs(expected).max()))


@pytest.fixture(scope="module")
def mixture(crystals, ethanol, lonely) -> list[Atoms]:
    """Dense and dilute cells, molecules, one atom alone, and one that CHGNet refuses."""
    dilute = bulk("Ar", a=5.3)  # no two neighbours within 3 angstrom
    return [*crystals, lonely, dilute, ethanol, bulk("Cu", a=3.2), Atoms("H"), molecule("O2")]


@pytest.mark.parametrize("name", ["positions", "element", *NETWORKS])
def test_the_features_of_a_structure_are_its_own(name, models, mixture, monkeypatch):
    """As it has them alone, whatever stands beside it, and in whatever order."""
    model = Positions() if name == "positions" else models[name]
    alone = {}
    for index, atoms in enumerate(mixture):
        try:
            alone[index] = extract_features(atoms, model, progress=False).features
        except InputError:
            continue
    rng = np.random.default_rng(0)
    forwards = np.arange(len(mixture))
    for order, size in (forwards, 10**9), (forwards[::-1], 500), (rng.permutation(forwards), 10**9):
        monkeypatch.setattr(computing, "BATCH_SIZE", size)
        found = extract_features([mixture[i] for i in order], model, progress=False)
        assert {*order[[*found.dropped]].tolist()} == {*range(len(mixture))} - {*alone}
        expected = np.concatenate([alone[i] for i in order[found.kept]])
        assert found.features.dtype == np.float32
        assert found.features == close_to(expected)
        numbers = np.concatenate([mixture[i].numbers for i in order[found.kept]])
        assert np.array_equal(found.numbers, numbers)
        assert np.array_equal(np.bincount(found.structure)[found.kept], found.n_atoms)


@pytest.mark.parametrize("name", NETWORKS)
def test_where_the_atoms_of_a_crystal_are_written_down_changes_nothing(models, crystals, name):
    """A thousand cells away, and a molecule far from the origin."""
    rng, model = np.random.default_rng(5), models[name]
    structures = [*crystals, fcc111("Al", (2, 2, 2), vacuum=8), molecule("CH3CH2OH")]
    expected = extract_features(structures, model, progress=False).features
    far = [atoms.copy() for atoms in structures]
    for atoms in far:
        atoms.positions += rng.integers(-1000, 1000, (len(atoms), 3)) * atoms.pbc @ atoms.cell
    far[-1].positions += (9e3, -4e5, 7e4)
    found = extract_features(far, model, progress=False).features
    assert found == pytest.approx(expected, rel=1e-4, abs=float(1e-5 * np.abs(expected).max()))


def test_far_fragments_take_neither_memory_nor_time(models):
    """MACE alone would list the neighbours of these in a box of 30 micrometres."""
    atoms = Atoms("H4", [(0, 0, 0), (0, 0, 1), (990, 0, 0), (990, 0, 1)])
    x = extract_features([atoms], models["mini-mace-mptrj"], progress=False).features
    assert x[:2] == pytest.approx(x[2:], abs=1e-5)


class Cramped(Positions):
    """A model whose memory holds so many atoms at a time."""

    room = 9

    def features(self, graphs):
        if sum(map(len, graphs)) > self.room:
            raise self.error
        return super().features(graphs)


def test_a_batch_that_the_memory_does_not_hold_is_halved():
    model, structures = Cramped(), clusters(40)
    model.error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    found = extract_features(structures, model, progress=False)
    assert found.features == close_to(np.concatenate([atoms.positions for atoms in structures]))
    model.error = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        extract_features(structures, model, progress=False)


class Odd(Positions):
    """Infinite features of long structures, in the last layer alone."""

    def features(self, graphs):
        x = super().features(graphs)["backbone"]
        long = np.repeat([len(g) > 5 for g in graphs], [len(g) for g in graphs])
        return {"backbone": x, "last": np.where(long, 1e300, 1)[:, None]}


def test_features_that_are_not_finite_are_left_out_with_their_structure(tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "BLOCK_SIZE", 7)
    structures = clusters(20)
    long = [i for i, atoms in enumerate(structures) if len(atoms) > 5]
    for _ in range(2):  # computed and read
        found = extract_features(structures, Odd(), store=tmp_path, progress=False)
        assert sorted([*found.kept, *found.dropped]) == list(range(20))
        why = dict.fromkeys(long, "positions gives it features that are not finite")
        assert found.dropped == why
        expected = np.concatenate([structures[i].positions for i in found.kept])
        assert found.features == close_to(expected)


def centred(x):
    """Depends on the company."""
    return {"backbone": x - x.mean(axis=0), "last": x[:, :1]}


@pytest.mark.parametrize(
    ("why", "wrong"),
    [
        (r"shapes .*\(1, 3\).*, not .*\(11, 3\)", lambda x: {"backbone": x[:1], "last": x[:1, :1]}),
        (r"shapes .*\(11, 2\)", lambda x: {"backbone": x[:, :2], "last": x[:, :1]}),
        ("gives a structure other features in a batch than alone", centred),
    ],
)
def test_a_model_of_ones_own_that_is_wrong_is_told(monkeypatch, why, wrong):
    right = Positions.features
    monkeypatch.setattr(Positions, "features", lambda *a: wrong(right(*a)["backbone"]))
    with pytest.raises(InputError, match=f"positions: .*{why}"):
        extract_features([molecule("C2H6"), molecule("H2O")], Positions(), progress=False)


def test_a_model_of_ones_own_needs_no_fingerprint_and_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.delattr(Positions, "fingerprint")
    found = extract_features(clusters(3), Positions(), store=tmp_path, progress=False)
    assert len(found.n_atoms) == 3
    assert not list(tmp_path.iterdir())
    monkeypatch.delattr(Positions, "size")
    with pytest.raises(InputError, match=r"^positions: its model lacks size\.$"):
        extract_features(clusters(3), Positions(), progress=False)


def test_structures_are_checked_before_any_is_computed(crystals, tmp_path):
    bad = crystals[1].copy()
    bad.positions[3] = bad.positions[0] + 4 * bad.cell[0] + (0, 0, 0.05)
    for atoms, why in ((bad, "atoms 0 and 3 are 0.05 angstrom apart"), (Atoms(), "has no atoms")):
        with pytest.raises(InputError, match=f"structure 70: {why}"):
            extract_features([*clusters(70), atoms], Positions(), store=tmp_path, progress=False)
    assert not list(tmp_path.glob("*/*.npz"))


def test_nothing_left_and_no_such_layer_are_errors(models, lonely):
    with pytest.raises(InputError, match=r"no structure left .*no neighbour inside 6 angstrom"):
        extract_features([lonely], models["chgnet-0.3.0"], progress=False)
    with pytest.raises(InputError, match="there is none"):
        extract_features([], models["chgnet-0.3.0"], progress=False)
    with pytest.raises(InputError, match="middle: no such layer, element has backbone, last"):
        extract_features([lonely], models["element"], "middle")


# in parallel


def test_workers_give_the_same_features_after_pytorch_has_used_threads_here(models):
    """Names and objects, also where this process would hang if it were forked now."""
    structures = load_structures("embedded")[::30]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (torch.rand(1500, 1500) @ torch.rand(1500, 1500)).sum()
        model = models["mini-mace-base-s0"]
        model.features([model.prepare(structures[0])])
        for name in NETWORKS:
            read = partial(extract_features, structures, progress=False)
            expected = read(models[name], workers=1)
            found = read(name if name == NETWORKS[0] else models[name], workers=2)
            assert found.features == close_to(expected.features)
            assert np.array_equal(found.kept, expected.kept)
            assert found.dropped == expected.dropped
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)


OWN = """
import torch
from tests.features.positions import Positions
class Mine(Positions):
    fingerprint = ""
    def features(self, graphs):
        factor = FACTOR * torch.get_num_threads()
        return {layer: factor * x for layer, x in super().features(graphs).items()}
"""


def test_a_model_in_a_file_is_the_file_as_it_is_now(tmp_path, monkeypatch):
    """On one thread, in this process and in workers that have run an older one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for factor in (1, 2):
        (tmp_path / "mine.py").write_text(OWN.replace("FACTOR", str(factor)))
        for workers in (1, 2):
            found = extract_features(clusters(80), "mine.py:Mine", workers=workers, progress=False)
            positions = np.concatenate([atoms.positions for atoms in clusters(80)])
            assert found.features == close_to(factor * positions)


class Unportable(Positions):
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("no pickle")


@pytest.mark.parametrize("model", [Deadly(), Unportable()])
def test_what_workers_do_not_finish_is_done_by_the_caller(model, capsys):
    """Every worker is killed by the model, or has none."""
    structures = clusters(200)
    found = extract_features(structures, model, workers=2, progress=False)
    assert found.features == close_to(np.concatenate([atoms.positions for atoms in structures]))
    assert model.calls == 4
    assert "this process goes on." in capsys.readouterr().err


def test_workers_are_started_when_that_saves_time(monkeypatch, capfd):
    asked = []

    def workers_that_do_nothing(n_workers, **_):
        asked.append(n_workers)
        return lambda work: (n for n in ())

    monkeypatch.setattr(joblib, "Parallel", workers_that_do_nothing)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    extract_features(clusters(200), Positions(seconds=0.05))
    assert not asked
    assert "200/200" in capfd.readouterr().err
    monkeypatch.setattr(computing, "START", 0.01)
    extract_features(clusters(200), Positions(seconds=0.05), progress=False)
    assert asked == [3]
    extract_features(clusters(200), Positions(), workers=1, progress=False)
    extract_features(clusters(64), Positions(), workers=2, progress=False)
    on_gpu = Positions()
    on_gpu.device = torch.device("meta")
    extract_features(clusters(200), on_gpu, workers=2, progress=False)
    assert asked == [3]


def test_joblib_says_who_computes(models):
    """Threads, too, which must not see each other's layers in the hooks of the network."""
    structures = load_structures("embedded")[:130]
    read = partial(extract_features, structures, "mini-mace-base-s0", progress=False)
    expected = read(workers=1).features
    with joblib.parallel_config(backend="threading", n_jobs=4):
        assert read().features == close_to(expected)


# several models and layers


def test_models_of_one_name_do_not_overwrite_each_other(tmp_path, crystals):
    one, other = Positions(), Positions()
    other.fingerprint, other.prepare = "e" * 64, lambda atoms: atoms[::-1]
    found = load_features(crystals, ["element", one, other], store=tmp_path, progress=False)
    assert list(found) == ["element", "positions (2)", "positions (3)"]
    expected = np.concatenate([atoms.positions[::-1] for atoms in crystals])
    assert found["positions (3)"].features == close_to(expected)
    blocks = FeatureBlocks(crystals, [one, other], "backbone", tmp_path)
    assert list(blocks[0]) == ["positions (1)", "positions (2)"]


def test_every_layer_of_a_model(models, crystals):
    found = features_by_layer(crystals, models["chgnet-0.3.0"], progress=False)
    steps = [f"interaction-{n}" for n in (1, 2, 3, 4)]
    assert list(found) == [*steps, "backbone", "last"]
    for layer, features in found.items():
        assert features.layer == layer
        assert features.features.shape == (len(features.numbers), 64)


def test_blocks_hold_only_what_every_model_accepts(models, crystals, lonely, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "BLOCK_SIZE", 2)
    structures = [crystals[0], lonely, crystals[1]]
    pair = [models["chgnet-0.3.0"], models["element"]]
    extract_features(structures, pair[0], store=tmp_path, progress=False)
    with pytest.raises(InputError, match=r"element-.* lacks a block, extract the features first"):
        FeatureBlocks(structures, pair, "last", tmp_path).n_atoms()
    extract_features(structures, pair[1], store=tmp_path, progress=False)
    blocks = FeatureBlocks(structures, pair, "last", tmp_path)
    sizes = [len(crystals[0]), len(crystals[1])]
    shapes = [{name: x.shape for name, x in block.items()} for block in blocks]
    assert shapes == [{"chgnet-0.3.0": (n, 64), "element": (n, 118)} for n in sizes]
    assert [n.tolist() for n in blocks.n_atoms()] == [[n] for n in sizes]
    with pytest.raises(InputError, match="middle: no such layer"):
        FeatureBlocks(structures, pair, "middle", tmp_path)[0]


# environments


@pytest.fixture
def environment(monkeypatch):
    """A stand-in for the Python of an environment, which notes the commands that it gets."""
    commands = []

    def run(name, command, on_line):
        options = dict(part[2:].split("=") for part in command[1:])
        model = options["model"]
        commands.append((name, model, options["device"]))
        if model == "remote-bad":
            raise InputError("remote-bad: no such luck.")
        on_line(f"{model}:  50%|     | 1/2 [00:01<00:01]")
        here = Positions()
        here.name = model
        structures = load_structures(options["structures"])
        extract_features(structures, here, store=options["store"], progress=False)

    monkeypatch.setattr(computing, "run_in_environment", run)
    return commands


def remote(name: str, environment: str) -> RemoteModel:
    return RemoteModel(name, Positions.fingerprint, {"backbone": 3, "last": 1}, environment, name)


def test_an_environment_is_asked_once_for_all_layers_of_a_model(environment, crystals, tmp_path):
    models = [remote("remote-1", "alpha"), remote("remote-2", "beta"), "element"]
    found = load_features(crystals, models, store=tmp_path)
    assert list(found) == ["remote-1", "remote-2", "element"]
    for name in ("remote-1", "remote-2"):
        expected = np.concatenate([atoms.positions for atoms in crystals])
        assert found[name].features == close_to(expected)
    load_features(crystals, models, "last", store=tmp_path)
    assert environment == [("alpha", "remote-1", "auto"), ("beta", "remote-2", "auto")]


def test_one_that_fails_there_is_named_and_the_others_go_on(
    environment, crystals, tmp_path, capsys
):
    names = ("remote-1", "remote-bad", "remote-2")
    found = load_features(crystals, [remote(n, "alpha") for n in names], store=tmp_path)
    assert list(found) == ["remote-1", "remote-2"]
    assert "remote-bad is left out: remote-bad: no such luck." in capsys.readouterr().err
    with pytest.raises(InputError, match="interaction-9: no such layer, remote-1 has backbone, la"):
        extract_features(crystals, remote("remote-1", "alpha"), "interaction-9")
    assert list(features_by_layer(crystals, remote("remote-1", "alpha"))) == ["backbone", "last"]
