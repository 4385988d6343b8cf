"""What happens to stored features when the disk, or somebody, changes them."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from umlip_latents import FeatureBlocks, extract_features
from umlip_latents import extraction as module
from umlip_latents import store as store_module
from umlip_latents.cli import main
from umlip_latents.models.base import Unsupported
from umlip_latents.resources import FORGOTTEN, InputError
from umlip_latents.store import Damaged, FeatureStore

from .test_extraction import Counting, atoms_of

STRUCTURES = atoms_of(12)
BLOCK = "block-000001"


class Choosy(Counting):
    """Refuses one structure of the second block."""

    def prepare(self, atoms):
        if len(atoms) == len(STRUCTURES[5]) and (atoms.positions == STRUCTURES[5].positions).all():
            raise Unsupported("not this one")
        return atoms


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The folder of a store of three blocks, and the features in it."""
    monkeypatch.setattr(module, "BLOCK", 4)
    found = extract_features(STRUCTURES, Choosy(), store=tmp_path / "s", progress=False)
    return next((tmp_path / "s").iterdir()), found


def chunk(folder: Path, block: str = BLOCK, array: str = "backbone") -> Path:
    """The file with the values of an array."""
    return next(path for path in (folder / block / array / "c").rglob("*") if path.is_file())


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def edit(path: Path, *keys: str, to) -> None:
    """Change one value in a JSON file."""
    whole = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to
    path.write_text(json.dumps(whole))


def swap(one: Path, other: Path) -> None:
    """Exchange two folders or files."""
    one.rename(one.with_name("swap"))
    other.rename(one)
    one.with_name("swap").rename(other)


def from_another_store(folder: Path) -> None:
    """A block of another model in the place of this one's."""
    model = Choosy()
    model.fingerprint = "e" * 64
    extract_features(STRUCTURES, model, store=folder.parent, progress=False)
    other = next(path for path in folder.parent.iterdir() if path != folder)
    swap(folder / BLOCK, other / BLOCK)


def zeros(folder: Path) -> None:
    """Valid values of the right shape, and wrong."""
    import zarr

    group = zarr.open_group(folder / BLOCK, mode="a")
    group["backbone"][:] = 0


DAMAGES = {
    "a byte of the values": lambda f: flip(chunk(f), -1),
    "a byte of the compression": lambda f: flip(chunk(f), 0),
    "a byte of kept": lambda f: flip(chunk(f, array="kept"), -1),
    "half a chunk": lambda f: chunk(f).write_bytes(chunk(f).read_bytes()[:9]),
    "an empty chunk": lambda f: chunk(f).write_bytes(b""),
    "no chunk": lambda f: chunk(f).unlink(),
    "zeros": zeros,
    "no kept": lambda f: shutil.rmtree(f / BLOCK / "kept"),
    "no n_atoms": lambda f: shutil.rmtree(f / BLOCK / "n_atoms"),
    "less rows": lambda f: edit(f / BLOCK / "backbone" / "zarr.json", "shape", to=[3, 3]),
    "endless rows": lambda f: edit(f / BLOCK / "backbone" / "zarr.json", "shape", to=[10**12, 3]),
    "another type": lambda f: edit(f / BLOCK / "kept" / "zarr.json", "data_type", to="uint64"),
    "kept for n_atoms": lambda f: swap(f / BLOCK / "kept", f / BLOCK / "n_atoms"),
    "another block": lambda f: swap(f / BLOCK, f / "block-000002"),
    "another block's kept": lambda f: swap(f / BLOCK / "kept", f / "block-000002" / "kept"),
    "another store's block": from_another_store,
    "nothing left out": lambda f: edit(f / BLOCK / "zarr.json", "attributes", "dropped", to={}),
    "no seals": lambda f: edit(f / BLOCK / "zarr.json", "attributes", "seals", to={}),
    "seals of a wrong type": lambda f: edit(f / BLOCK / "zarr.json", "attributes", "seals", to=3),
    "no attributes": lambda f: edit(f / BLOCK / "zarr.json", "attributes", to={}),
    "no JSON": lambda f: (f / BLOCK / "zarr.json").write_text("{"),
    "an empty folder": lambda f: (shutil.rmtree(f / BLOCK), (f / BLOCK).mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_block_is_named_and_computed_again(stored, capsys, damage):
    folder, expected = stored
    DAMAGES[damage](folder)
    model = Choosy()
    with pytest.raises(InputError, match=BLOCK) as caught:
        list(FeatureBlocks(STRUCTURES, [model], "backbone", folder.parent))
    assert len(str(caught.value).splitlines()) == 1
    found = extract_features(STRUCTURES, model, store=folder.parent, progress=False)
    assert f"{BLOCK}: is not as it was written, and is computed again." in capsys.readouterr().err
    assert 1 <= model.calls <= 2  # two blocks that were exchanged
    for key in ("features", "n_atoms", "numbers", "kept"):
        assert np.array_equal(getattr(found, key), getattr(expected, key)), key
    assert found.dropped == expected.dropped == {5: "not this one"}
    extract_features(STRUCTURES, model, store=folder.parent, progress=False)
    assert capsys.readouterr().err == ""


def test_other_layers_of_a_block_do_not_suffer(stored):
    """What is wrong is found where it is read, and what is not is read on."""
    folder, _ = stored
    flip(chunk(folder), -1)
    last = extract_features(STRUCTURES, Counting(fail_after=0), "last", store=folder.parent)
    assert len(last.kept) == len(STRUCTURES) - 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f.write_text("{"),
        lambda f: f.write_bytes(b"\xff\xfe"),
        lambda f: f.write_text("[]"),
        lambda f: edit(f, "attributes", to=3),
        lambda f: edit(f, "node_type", to="array"),
        Path.unlink,
    ],
)
def test_a_provenance_that_cannot_be_read_is_one_sentence(stored, spoil):
    folder, _ = stored
    spoil(folder / "provenance" / "zarr.json")
    with pytest.raises(InputError, match="its provenance cannot be read") as caught:
        extract_features(STRUCTURES, Choosy(), store=folder.parent, progress=False)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("fingerprint", None), ("block_size", "4")])
def test_a_provenance_of_other_values_is_refused(stored, key, value):
    folder, _ = stored
    edit(folder / "provenance" / "zarr.json", "attributes", key, to=value)
    with pytest.raises(InputError, match=f"holds features of {key} {value}, not of"):
        extract_features(STRUCTURES, Choosy(), store=folder.parent, progress=False)


def test_blocks_of_another_size_are_not_mistaken(stored, monkeypatch):
    folder, _ = stored
    monkeypatch.setattr(module, "BLOCK", 3)
    with pytest.raises(InputError, match="of block_size 4, not of 3"):
        extract_features(STRUCTURES, Choosy(), store=folder.parent, progress=False)


def test_a_store_that_cannot_be_written_is_read(stored, monkeypatch):
    """As root may write what is read-only, the file system says so here."""
    folder, expected = stored

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(store_module.FileLock, "acquire", refuse)
    monkeypatch.setattr(store_module.tempfile, "mkdtemp", refuse)
    found = extract_features(STRUCTURES, Counting(fail_after=0), store=folder.parent)
    assert np.array_equal(found.features, expected.features)
    shutil.rmtree(folder / BLOCK)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        extract_features(STRUCTURES, Choosy(), store=folder.parent, progress=False)


def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(tmp_path, small_files):
    atoms = Atoms("H4000", np.random.default_rng(0).normal(scale=100, size=(4000, 3)))
    full = pytest.raises(InputError, match=r"cannot be written \(File too large\)")
    with small_files(20_000), full:
        extract_features([atoms], Counting(), store=tmp_path, progress=False)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == [".lock", "provenance"]
    found = extract_features([atoms], Counting(), store=tmp_path, progress=False)
    assert len(found.features) == 4000


def test_a_file_in_the_place_of_a_store_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    command = ["extract", "--model", "element", "--structures", "embedded"]
    command += ["--output", str(tmp_path / "o.npz"), "--store", str(tmp_path / "file")]
    assert main(command) == 2
    assert "file' is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "o.npz").exists()


def test_what_killed_writers_left_is_swept_and_what_others_write_is_not(stored):
    folder, _ = stored
    for name, age in (("old", 2 * FORGOTTEN), ("new", 60)):
        (folder / f"writing-{name}" / "kept").mkdir(parents=True)
        then = (folder / "provenance").stat().st_mtime - age
        os.utime(folder / f"writing-{name}", (then, then))
    shutil.rmtree(folder / BLOCK)
    extract_features(STRUCTURES, Choosy(), store=folder.parent, progress=False)
    assert [path.name for path in folder.glob("writing-*")] == ["writing-new"]


def test_a_block_that_is_not_there_is_damaged(tmp_path):
    store = FeatureStore(tmp_path, {"model": "m"})
    with pytest.raises(Damaged, match="block-000007"):
        store.read(7, ["x"])
    assert store.sound(7, ["x"]) is None


def test_pickled_codecs_of_zarrs_second_format_are_not_looked_at(stored, tmp_path):
    """NumCodecs has one that unpickles, and that format may name it."""
    folder, _ = stored
    block = folder / BLOCK
    shutil.rmtree(block)
    block.mkdir()
    (block / ".zgroup").write_text('{"zarr_format": 2}')
    (block / ".zattrs").write_text('{"seals": {"kept": "int64 (1,) "}, "dropped": {}}')
    with pytest.raises(Damaged, match=BLOCK):
        FeatureStore(folder, {}).read(1, ["kept"])
