"""What happens to stored features when the disk, a signal or somebody changes them."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from ase import Atoms

from umlip_latents import FeatureBlocks, extract_features
from umlip_latents.features import computing as module
from umlip_latents.models.base import Unsupported
from umlip_latents.resources import DATA, InputError

from .positions import Positions, clusters

ROOT = DATA.parent
STRUCTURES = clusters(12)


class Choosy(Positions):
    """Refuses one structure of the second block."""

    def prepare(self, atoms):
        if len(atoms) == len(STRUCTURES[5]) and (atoms.positions == STRUCTURES[5].positions).all():
            raise Unsupported("not this one")
        return atoms


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SIZE", 4)


@pytest.fixture
def stored(tmp_path):
    """The files of three blocks, and the features in them."""
    found = extract_features(STRUCTURES, Choosy(), store=tmp_path, progress=False)
    return sorted(tmp_path.glob("*/*.npz")), found


def assert_same(found, expected, tolerance=0):
    assert found.features == pytest.approx(expected.features, rel=tolerance, abs=tolerance)
    for key in ("n_atoms", "numbers", "kept"):
        assert np.array_equal(getattr(found, key), getattr(expected, key)), key
    assert found.dropped == expected.dropped


def test_what_is_stored_is_read_and_not_computed(stored):
    files, expected = stored
    assert len(files) == 3
    assert expected.dropped == {5: "not this one"}
    read = partial(extract_features, STRUCTURES, Choosy(n_calls=0), store=files[0].parents[1])
    assert_same(read(), expected)
    assert np.array_equal(read("last").features, expected.features[:, :1])


def test_no_flipped_byte_gives_other_features(stored, capsys):
    """A sample of all bytes of a block, and every one of the directory at its end."""
    (_, file, _), expected = stored
    content = file.read_bytes()
    rng, recomputed = np.random.default_rng(0), 0
    for position in (*rng.integers(len(content), size=30), *range(-60, 0)):
        damaged = bytearray(content)
        damaged[position] ^= rng.integers(1, 256)
        file.write_bytes(damaged)
        model = Choosy()
        found = extract_features(STRUCTURES, model, store=file.parents[1], progress=False)
        assert_same(found, expected)
        assert model.calls == (f"{file}: is damaged" in capsys.readouterr().err)
        recomputed += model.calls
    assert recomputed > 40


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-30]),
        lambda file: np.savez(file, features=np.zeros((3, 4))),
        lambda file: np.savez(file, **dict(np.load(file)) | {"fingerprint": "e" * 64}),
        lambda file: np.savez(file, **dict(np.load(file)) | {"layer": "backbone"}),
    ],
    ids=["torn", "other arrays", "of another model", "without widths"],
)
def test_a_block_that_cannot_be_used_is_computed_again(stored, capsys, damage):
    (_, file, _), expected = stored
    damage(file)
    with pytest.raises(InputError, match="extract the features first"):
        list(FeatureBlocks(STRUCTURES, [Choosy()], "backbone", file.parents[1]))
    assert capsys.readouterr().err == f"{file}: is damaged, and computed again.\n"
    model = Choosy()
    assert_same(extract_features(STRUCTURES, model, store=file.parents[1]), expected)
    assert model.calls == 1


def test_another_model_or_other_structures_have_files_of_their_own(stored):
    """Also if their fingerprints begin alike."""
    (file, *_), expected = stored
    other = Choosy()
    other.fingerprint = "f" * 8 + "e" * 56
    assert_same(extract_features(STRUCTURES, other, store=file.parents[1]), expected)
    assert other.calls == 3
    moved = [Atoms("H", [(0, 0, 1e-12)]), *STRUCTURES[1:]]
    model = Choosy()
    extract_features(moved, model, store=file.parents[1])
    assert model.calls == 3


def test_a_model_without_a_fingerprint_is_never_stored(tmp_path):
    model = Positions()
    model.fingerprint = ""
    for n_calls in (3, 6):
        extract_features(STRUCTURES, model, store=tmp_path, progress=False)
        assert model.calls == n_calls
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_written_is_read(stored, monkeypatch):
    """As root may write what is read-only, the file system says so here."""
    (file, *_), expected = stored

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module.FileLock, "acquire", refuse)
    assert_same(extract_features(STRUCTURES, Choosy(), store=file.parents[1]), expected)
    file.unlink()
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        extract_features(STRUCTURES, Choosy(), store=file.parents[1], progress=False)


def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(tmp_path, small_files):
    atoms = Atoms("H4000", np.random.default_rng(0).normal(scale=100, size=(4000, 3)))
    full = pytest.raises(InputError, match=r"cannot be written \(File too large\)")
    with small_files(20_000), full:
        extract_features([atoms], Positions(), store=tmp_path, progress=False)
    assert [path.name for path in tmp_path.glob("*/*")] == [".lock"]
    assert len(extract_features([atoms], Positions(), store=tmp_path).features) == 4000


def test_an_interrupted_extraction_goes_on_where_it_stopped(tmp_path):
    expected = extract_features(STRUCTURES, Positions(), progress=False)
    with pytest.raises(KeyboardInterrupt):
        extract_features(STRUCTURES, Positions(n_calls=2), store=tmp_path, progress=False)
    rest = Positions()
    assert_same(extract_features(STRUCTURES, rest, store=tmp_path, progress=False), expected)
    assert rest.calls == 1


def test_many_at_once_compute_no_block_twice(tmp_path):
    each = [Positions() for _ in range(8)]
    with ThreadPoolExecutor(len(each)) as pool:
        extract = partial(extract_features, STRUCTURES, store=tmp_path, progress=False)
        found = list(pool.map(extract, each))
    assert sum(model.calls for model in each) == 3
    for one in found:
        assert_same(one, found[0])


def start(call: str) -> subprocess.Popen:
    """Another Python that extracts, with all its workers in a group of its own."""
    program = (
        "from tests.features.positions import Positions, clusters\n"
        "from umlip_latents import extract_features, load_structures\n"
        f"print(len(extract_features({call}, progress=False).kept))"
    )
    options = {"cwd": ROOT, "start_new_session": True, "text": True, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", program], **options)


def wait_for_blocks(folder, n_blocks: int, process: subprocess.Popen) -> None:
    while len(list(folder.glob("*/*.npz"))) < n_blocks:
        assert process.poll() is None
        time.sleep(0.01)


def test_a_second_process_goes_on_where_one_was_killed(tmp_path, monkeypatch):
    """It waits as long as the first one lives, and takes over its finished blocks."""
    monkeypatch.undo()
    call = f"clusters(400), Positions(seconds=0.3), store={str(tmp_path)!r}, workers=1"
    first = start(call)
    wait_for_blocks(tmp_path, 1, first)
    second = start(call)
    wait_for_blocks(tmp_path, 2, first)
    torn = next(tmp_path.iterdir()) / ".block-00000000.npz.abcd.part"
    torn.write_text("half a blo")
    first.kill()
    assert second.communicate(timeout=120)[0] == "400\n"
    assert not torn.exists()
    expected = extract_features(clusters(400), Positions(), progress=False)
    found = extract_features(clusters(400), Positions(n_calls=0), store=tmp_path)
    assert_same(found, expected)
    assert second.returncode == 0
    assert first.wait() == -9
