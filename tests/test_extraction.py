"""Batching, resuming, leaving out, and files of features."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from mace.calculators import MACECalculator
from pymatgen.io.ase import AseAtomsAdaptor

from umlip_latents import Features, extract_features, features_by_name, load_model
from umlip_latents import extraction as module
from umlip_latents.book import ROOT
from umlip_latents.extraction import packed
from umlip_latents.features import common_structures
from umlip_latents.resources import InputError
from umlip_latents.store import FeatureStore
from umlip_latents.structures import fingerprint


class Counting:
    """A model whose features are positions, and which counts its calls."""

    name = "counting"
    fingerprint = "f" * 64

    def __init__(self, fail_after: int = 10**9):
        self.widths = {"backbone": 3, "last": 1}
        self.calls = 0
        self.fail_after = fail_after

    def prepare(self, atoms):
        return atoms

    def size(self, graph):
        return len(graph)

    def features(self, graphs):
        self.calls += 1
        if self.calls > self.fail_after:
            raise KeyboardInterrupt
        x = np.concatenate([g.positions for g in graphs]).astype(np.float32)
        return {"backbone": x, "last": x[:, :1]}


def atoms_of(n_structures: int) -> list[Atoms]:
    rng = np.random.default_rng(0)
    return [Atoms("H" * n, rng.normal(size=(n, 3))) for n in rng.integers(1, 9, n_structures)]


def test_packing_covers_everything_once_within_the_budget():
    rng = np.random.default_rng(1)
    sizes = {i: int(s) for i, s in enumerate(rng.integers(1, 400, 100))}
    batches = list(packed(sizes, 300))
    assert sorted(i for b in batches for i in b) == list(range(100))
    assert all(sum(sizes[i] for i in b) <= 300 or len(b) == 1 for b in batches)
    assert len(batches) < 100


def test_rows_come_back_in_the_order_of_the_input(monkeypatch):
    monkeypatch.setattr(module, "BATCH_SIZE", 10)
    monkeypatch.setattr(module, "BLOCK", 7)
    structures = atoms_of(40)
    found = extract_features(structures, Counting(), progress=False)
    expected = np.concatenate([a.positions for a in structures])
    assert found.features == pytest.approx(expected, abs=1e-6)
    assert (found.n_atoms == [len(a) for a in structures]).all()
    assert (found.structure == np.repeat(np.arange(40), found.n_atoms)).all()


class Cramped(Counting):
    """A model whose memory holds so many atoms at a time."""

    room = 9
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")

    def features(self, graphs):
        if sum(map(len, graphs)) > self.room:
            raise self.error
        return super().features(graphs)


@pytest.mark.parametrize("error", [Cramped.error, MemoryError()])
def test_a_batch_that_the_memory_does_not_hold_is_halved(error):
    structures = atoms_of(40)
    model = Cramped()
    model.error = error
    found = extract_features(structures, model, progress=False)
    assert found.features == pytest.approx(
        np.concatenate([a.positions for a in structures]), abs=1e-6
    )
    model.room = 4
    with pytest.raises(type(error)):
        extract_features(structures, model, progress=False)
    model.error, model.room = RuntimeError("shapes differ"), 9
    with pytest.raises(RuntimeError, match="shapes differ"):
        extract_features(structures, model, progress=False)


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj"])
def test_batches_give_the_features_of_one_structure_at_a_time(name, models, crystals):
    model = models[name]
    network, found = model.network, []
    calculator = MACECalculator(
        models=[models["mini-mace-mptrj"].network], device="cpu", default_dtype="float32"
    )
    hooked = network.mlp if name.startswith("chgnet") else network.products[-1]
    hook = hooked.register_forward_hook(lambda module, inputs, out: found.append((inputs, out)))
    try:
        for atoms in crystals:
            if name.startswith("chgnet"):
                network.predict_structure(AseAtomsAdaptor.get_structure(atoms), task="e")
            else:
                calculator.get_potential_energy(atoms)
    finally:
        hook.remove()
    # CHGNet: input of the readout; MACE: invariants of the last interaction, the last columns
    rows = [i[0] if name.startswith("chgnet") else o for i, o in found]
    alone = torch.cat(rows).detach().numpy()
    ours = extract_features(crystals, model, progress=False).features[:, -alone.shape[1] :]
    assert ours == pytest.approx(alone, rel=1e-5, abs=float(1e-5 * np.abs(alone).max()))


def test_an_interrupted_extraction_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    structures = atoms_of(45)
    with pytest.raises(KeyboardInterrupt):
        extract_features(structures, Counting(fail_after=3), store=tmp_path, progress=False)
    rest = Counting()
    found = extract_features(structures, rest, store=tmp_path, progress=False)
    assert rest.calls == 2
    expected = extract_features(structures, Counting(), progress=False)
    assert np.array_equal(found.features, expected.features)
    again = Counting(fail_after=0)
    last = extract_features(structures, again, "last", store=tmp_path, progress=False)
    assert np.array_equal(last.features, expected.features[:, :1])


def test_a_half_written_block_is_not_taken_for_a_whole_one(tmp_path):
    provenance = {"model": "m", "fingerprint": "f", "structures": "s"}
    store = FeatureStore(tmp_path / "a.zarr", provenance)
    (tmp_path / "a.zarr" / "writing-000000-1").mkdir()
    assert 0 not in store
    store.write(0, {"x": np.arange(3)}, {"4": "why"})
    arrays, dropped = FeatureStore(tmp_path / "a.zarr", provenance).read(0, ["x"])
    assert (arrays["x"] == np.arange(3)).all()
    assert dropped == {"4": "why"}


def test_many_at_once_start_a_store_and_compute_no_block_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    structures, each = atoms_of(20), [Counting() for _ in range(8)]
    with ThreadPoolExecutor(len(each)) as pool:
        extract = partial(extract_features, structures, store=tmp_path, progress=False)
        found = list(pool.map(extract, each))
    assert sum(model.calls for model in each) == 10
    assert all(np.array_equal(one.features, found[0].features) for one in found)


def test_an_interrupted_start_of_a_store_leaves_nothing_that_is_taken_for_one(
    tmp_path, monkeypatch
):
    provenance = {"model": "m", "fingerprint": "f", "structures": "s"}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            FeatureStore(tmp_path, provenance)
    assert not [*tmp_path.glob("provenance*")]
    FeatureStore(tmp_path, provenance)


def test_a_store_of_another_model_is_refused(tmp_path):
    FeatureStore(tmp_path, {"model": "m", "fingerprint": "f", "structures": "s"})
    with pytest.raises(InputError, match="holds features of fingerprint f"):
        FeatureStore(tmp_path, {"model": "m", "fingerprint": "g", "structures": "s"})


def test_refused_structures_are_named_and_the_rest_go_on(models, crystals, lonely, tmp_path):
    structures = [crystals[0], lonely, crystals[1]]
    for store in (None, tmp_path, tmp_path):
        found = extract_features(structures, models["chgnet-0.3.0"], store=store, progress=False)
        assert list(found.kept) == [0, 2]
        assert list(found.dropped) == [1]
        assert "no neighbour inside 6 angstrom" in found.dropped[1]
        assert len(found.features) == len(crystals[0]) + len(crystals[1])


def test_comparison_uses_what_every_model_accepts(models, crystals, lonely):
    structures = [crystals[0], lonely, crystals[1]]
    names = ("chgnet-0.3.0", "mini-mace-mptrj")
    found = [extract_features(structures, models[n], progress=False) for n in names]
    assert [len(f.kept) for f in found] == [2, 3]
    common = common_structures(found)
    assert [list(f.kept) for f in common] == [[0, 2], [0, 2]]
    assert (common[0].numbers == common[1].numbers).all()


def test_models_that_cannot_be_had_are_named_and_none_at_all_is_an_error():
    cell = Atoms("He2", positions=[[0, 0, 0], [0, 0, 1]])
    features, missing = features_by_name([cell], ["no-such-model", "element"], progress=False)
    assert list(features) == ["element"]
    assert "no-such-model" in missing["no-such-model"]
    with pytest.raises(InputError, match=r"no features\. no-such-model"):
        features_by_name([cell], ["no-such-model"])


def test_a_registered_model_is_loaded_once_and_a_file_every_time():
    own = ROOT / "notebooks" / "my_model.py:SymmetryFunctions"
    assert module.loaded("chgnet-0.3.0") is module.loaded("chgnet-0.3.0")
    assert module.loaded(own) is not module.loaded(own)
    assert load_model("chgnet-0.3.0") is not module.loaded("chgnet-0.3.0")


class Overflowing(Counting):
    """Infinite features of long structures, in the last layer alone."""

    def features(self, graphs):
        found = super().features(graphs)
        long = np.repeat([len(g) > 5 for g in graphs], [len(g) for g in graphs])
        return found | {"last": np.where(long, 1e300, 1)[:, None]}


def test_features_that_are_not_finite_are_left_out_with_their_structure(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    structures = atoms_of(20)
    long = [i for i, atoms in enumerate(structures) if len(atoms) > 5]
    for _ in range(2):  # computed and read
        found = extract_features(structures, Overflowing(), store=tmp_path, progress=False)
        assert list(found.dropped) == long
        assert set(found.dropped.values()) == {
            "counting gives it features that are not finite numbers"
        }
        kept = [structures[i] for i in found.kept]
        assert [*found.kept, *long] == sorted([*found.kept]) + long
        assert len(kept) + len(long) == len(structures)
        expected = np.concatenate([atoms.positions for atoms in kept])
        assert found.features == pytest.approx(expected, abs=1e-6)
        assert (found.numbers == np.concatenate([atoms.numbers for atoms in kept])).all()


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj", "element"])
def test_structures_are_checked_before_any_is_computed(models, crystals, tmp_path, name):
    bad = crystals[1].copy()
    bad.positions[3] = bad.positions[0] + 4 * bad.cell[0] + (0, 0, 0.05)
    for atoms, why in ((bad, "atoms 0 and 3 are 0.05 angstrom apart"), (Atoms(), "has no atoms")):
        structures = [*crystals, atoms]
        with pytest.raises(InputError, match=f"structure {len(crystals)}: {why}"):
            extract_features(structures, models[name], store=tmp_path, progress=False)
    assert not [*tmp_path.glob("*/block-*")]


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj"])
def test_where_the_atoms_of_a_crystal_are_written_down_changes_nothing(models, crystals, name):
    """A thousand cells away, and a molecule far from the origin; near ones keep every bit."""
    rng, model = np.random.default_rng(5), models[name]
    slab, ethanol = fcc111("Al", (2, 2, 2), vacuum=8), molecule("CH3CH2OH")
    structures = [*crystals, slab, ethanol]
    expected = extract_features(structures, model, progress=False).features
    far = [atoms.copy() for atoms in structures]
    for atoms in far:
        atoms.positions += rng.integers(-1000, 1000, (len(atoms), 3)) * atoms.pbc @ atoms.cell
    far[-1].positions += (9e3, -4e5, 7e4)
    found = extract_features(far, model, progress=False).features
    assert found == pytest.approx(expected, rel=1e-4, abs=float(1e-5 * np.abs(expected).max()))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "graph", lambda atoms: seen.append(atoms.positions))
        for atoms in structures:
            model.prepare(atoms)
    assert all(
        np.array_equal(x, atoms.positions) for x, atoms in zip(seen, structures, strict=True)
    )


def test_far_fragments_take_neither_memory_nor_time(models):
    """MACE alone would list the neighbours of these in a box of 30 micrometres."""
    atoms = Atoms("H4", [(0, 0, 0), (0, 0, 1), (990, 0, 0), (990, 0, 1)])
    x = extract_features([atoms], models["mini-mace-mptrj"], progress=False).features
    assert x[:2] == pytest.approx(x[2:], abs=1e-5)


def test_progress_moves_with_every_batch(monkeypatch):
    monkeypatch.setattr(module, "BATCH_SIZE", 10)
    structures, steps = atoms_of(40), []
    bar = Mock()
    bar.return_value.__enter__ = Mock(return_value=Mock(update=steps.append, n=0))
    bar.return_value.__exit__ = Mock(return_value=False)
    monkeypatch.setattr(module, "tqdm", bar)
    model = Counting()
    extract_features(structures, model)
    assert sum(steps) == 40
    assert len(steps) == model.calls > 10


def test_nothing_left_is_an_error(models, lonely):
    with pytest.raises(InputError, match="no structure left"):
        extract_features([lonely], models["chgnet-0.3.0"], progress=False)
    with pytest.raises(InputError, match="no structure left"):
        extract_features([], models["chgnet-0.3.0"], progress=False)
    with pytest.raises(InputError, match="no such layer"):
        extract_features([lonely], models["element"], "middle")


def test_features_survive_a_file(tmp_path, models, crystals):
    found = extract_features(crystals, models["element"], progress=False)
    found.save(tmp_path / "f.npz")
    again = Features.load(tmp_path / "f.npz")
    assert found.fingerprint == models["element"].fingerprint
    assert found.structures == fingerprint(crystals)
    for key in ("features", "n_atoms", "numbers", "kept", "model", "layer"):
        assert np.array_equal(getattr(found, key), getattr(again, key)), key
    assert (again.fingerprint, again.structures) == (found.fingerprint, found.structures)
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_an_unwritable_output_leaves_nothing(tmp_path, models, crystals):
    found = extract_features(crystals, models["element"], progress=False)
    with pytest.raises(InputError, match="there is no folder"):
        found.save(tmp_path / "no-such-folder" / "f.npz")
    assert list(tmp_path.iterdir()) == []
