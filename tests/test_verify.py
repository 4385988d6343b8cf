"""`verify`: one byte changed in a file that ships, was downloaded or stored, and it is named."""

import json
import runpy
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from umlip_latents import load_structures, verify
from umlip_latents.cli import main
from umlip_latents.resources import DATA, OFFLINE, sha256
from umlip_latents.results import REFERENCE, save_results
from umlip_latents.store import FeatureStore
from umlip_latents.verify import (
    Check,
    controlled,
    held_out,
    near,
    rebuilt,
    registered,
    shipped,
    stored,
    to_the_end,
)

from .same_tables import differences

CHECKPOINT = "checkpoints/mini-mace-base-s0.safetensors"
TABLE = "reference-results/full/03_comparison-errors.csv"
MANIFEST = DATA / "reference-results" / "manifest.csv"


def flip(file, place=0.5):
    """Change one byte of a file."""
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)


def wrong(checks):
    """What is wrong."""
    return [check.what for check in checks if check.right is False]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of all data, which `verify` looks at."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    monkeypatch.setattr(verify, "DATA", folder)
    return folder


@pytest.fixture
def nothing_at_hand(tmp_path, monkeypatch):
    """No downloads; returns the folder where they would be."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(OFFLINE, "1")
    return folder


def test_the_manifest_has_a_row_for_every_file_and_says_what_made_it():
    kept = pd.read_csv(MANIFEST, dtype=str, keep_default_na=False).set_index("file")
    folders = ("checkpoints", "published", "reference-results", "structures")
    files = [f for name in folders for f in (DATA / name).rglob("*") if f.is_file()]
    ours = [f for f in files if f.suffix not in (".py", ".md", ".pyc") and f != MANIFEST]
    assert sorted(kept.index) == sorted(f.relative_to(DATA).as_posix() for f in ours)
    made = runpy.run_path(str(MANIFEST.with_suffix(".py")))["rows"]().set_index("file")
    # of files that do not say it, the commit is known to a full clone alone
    pd.testing.assert_frame_equal(made.drop(columns="commit"), kept.drop(columns="commit"))
    assert kept["commit"].str.fullmatch("[0-9a-f]{12}").all()
    root = DATA.parent
    assert all((root / made).is_file() for made in {*kept["made_by"]} - {"arXiv:2512.05717"})
    assert kept["models"][TABLE].split()[:2] == ["7net-0", "7net-l3i5"]
    assert kept["data"][TABLE] == "alexandria-random-1k"
    assert kept["seeds"][CHECKPOINT] == "split 0, training 0"


def test_what_ships_is_what_it_was():
    assert all(check.right for check in shipped())


@pytest.mark.parametrize("name", [CHECKPOINT, TABLE, "structures/embedded.xyz"])
def test_one_byte_of_what_ships_is_named(copy, name):
    flip(copy / name)
    [bad] = [check for check in shipped() if not check.right]
    assert (bad.what, bad.expected) == (str(copy / name), sha256(DATA / name))
    assert bad.found == sha256(copy / name)


def test_a_file_that_is_gone_is_named(copy):
    (copy / TABLE).unlink()
    assert [(c.what, c.found) for c in shipped() if not c.right] == [
        (str(copy / TABLE), "no such file")
    ]


def test_downloads_are_checked_if_they_are_at_hand(nothing_at_hand):
    checks = list(registered())
    assert not wrong(checks)
    absent = {check.what for check in checks if check.right is None}
    assert {"mptrj-random-1k.xyz", "alexandria-random-1k.xyz"} <= absent
    here = {Path(check.what).name for check in checks if check.right}
    assert {"embedded.xyz", Path(CHECKPOINT).name} & here == {Path(CHECKPOINT).name}
    assert "chgnet_0.3.0_e29f68s314m37.pth.tar" in here
    (nothing_at_hand / "mptrj-random-1k.xyz").write_text("something else")
    assert wrong(registered()) == [str(nothing_at_hand / "mptrj-random-1k.xyz")]


def test_checkpoints_inside_other_packages_are_checked(nothing_at_hand, monkeypatch):
    package = nothing_at_hand / "chgnet"
    file = package / "pretrained" / "0.3.0" / "chgnet_0.3.0_e29f68s314m37.pth.tar"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"pickled")
    spec = ModuleSpec("chgnet", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(verify, "find_spec", lambda name: spec)
    assert wrong(registered()) == [str(file)]


@pytest.fixture
def store(tmp_path):
    """A folder with a store of two blocks."""
    rng = np.random.default_rng(0)
    features = FeatureStore(tmp_path / "kept" / "a.zarr", {"model": "a"})
    for number in range(2):
        arrays = {"backbone": rng.normal(size=(50, 8)), "kept": np.arange(50) + 50 * number}
        features.write(number, arrays, {})
    return tmp_path / "kept"


def test_a_store_that_is_what_was_written_is_right(store):
    assert [check.right for check in stored(store)] == [True, True]


def values(block):
    """Every array of a block."""
    return {name: array[:] for name, array in zarr.open_group(block, mode="r").arrays()}


def test_one_byte_of_any_stored_file_is_named_or_changes_no_value(store):
    block = store / "a.zarr" / "block-000001"
    before = values(block)
    for file in [f for f in block.rglob("*") if f.is_file()]:
        content = file.read_bytes()
        for place in (0.1, 0.5, 0.9):
            flip(file, place)
            if wrong(stored(store)) != [str(block)]:  # such as the level of the compression
                assert all(np.array_equal(x, before[name]) for name, x in values(block).items())
            file.write_bytes(content)
        file.unlink()
        assert wrong(stored(store)) == [str(block)], file
        file.write_bytes(content)
    assert not wrong(stored(store))


def test_blocks_that_changed_places_are_named(store):
    one, other = sorted((store / "a.zarr").glob("block-*"))
    one.rename(store / "x")
    other.rename(one)
    (store / "x").rename(other)
    assert wrong(stored(store)) == [str(one), str(other)]


def test_a_number_is_right_within_its_tolerance():
    assert near("x", 2.0, 2.0 + 1.9e-3, 1e-3).right
    assert near("x", 2.0, 2.0 + 2.1e-3, 1e-3) == Check("x", "2", "2.0021", False)
    assert not near("x", 2.0, np.nan, 1e-3).right
    assert near("x", np.nan, np.nan, 1e-3).right


def test_the_table_of_the_controlled_models_comes_from_their_cards(tmp_path, monkeypatch):
    assert {check.right for check in controlled()} == {True}
    table = pd.read_csv(REFERENCE / "05_controlled_training-models.csv")
    table.loc[3, "force all"] *= 1.0001
    table.to_csv(tmp_path / "05_controlled_training-models.csv", index=False)
    monkeypatch.setattr(verify, "REFERENCE", tmp_path)
    file = "05_controlled_training-models.csv"
    assert wrong(controlled()) == [f"{file}, force all of {table['name'][3]}"]


def test_errors_between_models_are_computed_anew(monkeypatch):
    monkeypatch.setattr(verify, "load_structures", lambda name: load_structures(name)[:30])
    checks = list(rebuilt())
    assert len(checks) == 6
    assert wrong(checks) == [check.what for check in checks], "other structures, other errors"


def test_held_out_errors_are_those_of_the_recipe(monkeypatch):
    name = "mini-mace-mptrj"
    card = json.loads((DATA / "checkpoints" / f"{name}.json").read_text())["held_out_errors"]
    monkeypatch.setattr(verify, "copies", lambda file: [Path(file)])
    monkeypatch.setattr("umlip_latents.training.recipe_parts", lambda recipe: {"held out": []})
    monkeypatch.setattr("umlip_latents.training.by_dataset", lambda structures, errors: card)
    checks = list(held_out(name))
    assert len(checks) == 6
    assert not wrong(checks)
    key = "force_mae_meV_per_angstrom"
    changed = {n: e | {key: 1.01 * e[key]} for n, e in card.items()}
    monkeypatch.setattr("umlip_latents.training.by_dataset", lambda structures, errors: changed)
    assert wrong(held_out(name)) == [f"held-out errors of {name}, {key} on {n}" for n in card]


def test_numbers_whose_data_are_not_at_hand_are_named(nothing_at_hand):
    [check] = held_out("mini-mace-mptrj")
    assert check.right is None
    assert check.what.endswith("without mptrj-random-1k, mptrj-highest-stress-1k")


def test_what_stops_a_part_is_wrong():
    def broken():
        yield Check("a", "1", "1", True)
        raise KeyError("gone")

    first, last = to_the_end("numbers", broken())
    assert first.right
    assert last == Check("numbers", "to be checked to the end", "KeyError: 'gone'", False)


@pytest.fixture
def quick(monkeypatch, nothing_at_hand):
    """Without the numbers that take a minute."""
    monkeypatch.setattr(verify, "rebuilt", lambda: iter(()))


def test_the_command_tells_that_all_is_right(quick, capsys):
    assert main(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "shipped files",
        "downloads and checkpoints",
        "reference numbers",
    ]
    assert lines[0] == f"shipped files: {len(pd.read_csv(MANIFEST))} right, 0 not at hand"
    assert "right, 2 not at hand (held-out errors of mini-mace-mptrj, without mptrj" in lines[2]


def test_the_command_names_all_that_is_wrong(quick, copy, store, capsys):
    block = store / "a.zarr" / "block-000000"
    chunk = max((f for f in block.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    for file in (copy / CHECKPOINT, copy / TABLE, chunk):
        flip(file)
    assert main(["verify", "--store", str(store), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {part: [bad["what"] for bad in of["wrong"]] for part, of in found.items()} == {
        "shipped files": [str(copy / CHECKPOINT), str(copy / TABLE)],
        "downloads and checkpoints": [str(copy / CHECKPOINT)],
        "blocks of the store": [str(block)],
        "reference numbers": [],
    }
    assert main(["verify", "--store", str(store)]) == 1
    told = capsys.readouterr().out
    assert (
        f"  {copy / TABLE}: expected {sha256(DATA / TABLE)}, found {sha256(copy / TABLE)}" in told
    )
    assert main(["verify", "--store", str(copy / "recipes")]) == 1
    assert "holds no features" in capsys.readouterr().out


@pytest.fixture
def builds(tmp_path):
    """Two folders with the same results."""
    table = pd.DataFrame({"error": [0.1234567890123, np.nan, 3e-9], "model": ["a", "b", None]})
    for name in "ab":
        findings = [{"question": "q", "finding": "f"}]
        save_results(tmp_path / name / "results", "01_x", findings, errors=table)
    return tmp_path / "a", tmp_path / "b"


def test_the_same_builds_have_the_same_tables(builds):
    assert differences(*builds) == []


@pytest.mark.parametrize(("by", "same"), [(1e-9, True), (1e-7, False)])
def test_numbers_that_differ_are_named(builds, by, same):
    file = builds[1] / "results" / "01_x-errors.csv"
    table = pd.read_csv(file)
    table.loc[2, "error"] *= 1 + by
    table.to_csv(file, index=False)
    assert [line.startswith("01_x-errors.csv: row 2, error:") for line in differences(*builds)] == (
        [] if same else [True]
    )


def test_words_files_and_rows_that_differ_are_named(builds):
    results = builds[1] / "results"
    content = json.loads((results / "01_x.json").read_text())
    content["provenance"]["commit"] = "another"
    (results / "01_x.json").write_text(json.dumps(content))
    assert differences(*builds) == []
    content["findings"][0]["finding"] = "g"
    (results / "01_x.json").write_text(json.dumps(content))
    pd.read_csv(results / "01_x-errors.csv")[:2].to_csv(results / "01_x-errors.csv", index=False)
    (results / "02_y-errors.csv").write_text("a\n1\n")
    found = differences(*builds)
    assert [line.split(":")[0] for line in found] == [
        "02_y-errors.csv",
        "01_x-errors.csv",
        "01_x.json",
    ]
