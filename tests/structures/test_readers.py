"""Damaged and invented files: a reader says what is wrong in one sentence, or reads atoms."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from ase.io import write
from hypothesis import given
from hypothesis import strategies as st

from umlip_latents import Features, load_model, load_structures
from umlip_latents.resources import InputError
from umlip_latents.structures.checks import check_structure
from umlip_latents.training.recipes import read_recipe

CRYSTAL = bulk("NaCl", "rocksalt", a=5.64)
FORMATS = ("xyz", "cif", "vasp", "json", "db", "traj", "xsf", "cfg")
PLACES = st.floats(0, 1, exclude_max=True)
# where something is lost, and what comes in its place
DAMAGE = st.tuples(PLACES, st.integers(0, 20), st.binary(max_size=20))


def read_or_none(reader: Callable[[Path], Any], path: Path, content: bytes) -> Any:
    """What a reader gives; None where it refuses in a sentence that names the file."""
    path.write_bytes(content)
    try:
        return reader(path)
    except InputError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1, sentence
    assert path.name.partition(".")[0] in sentence
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with sound files, and others that are overwritten by every example."""
    folder = tmp_path_factory.mktemp("readers")
    for ending in FORMATS:
        write(folder / f"whole.{ending}", CRYSTAL)
    return folder


@pytest.mark.parametrize("ending", FORMATS)
def test_formats_of_ase_are_read(ending, folder):
    (found,) = load_structures(folder / f"whole.{ending}")
    assert sorted(found.symbols) == ["Cl", "Na"]
    assert found.cell.volume == pytest.approx(CRYSTAL.cell.volume)


@pytest.mark.parametrize("ending", FORMATS)
@given(damage=DAMAGE)
def test_damaged_structures_are_refused_or_make_sense(ending, damage, folder):
    content = (folder / f"whole.{ending}").read_bytes()
    place, n_lost, new = damage
    at = int(place * len(content))
    content = content[:at] + new + content[at + n_lost :]
    for atoms in read_or_none(load_structures, folder / f"damaged.{ending}", content) or []:
        check_structure(atoms, "here")


READERS = {
    "any.npz": Features.load,
    "any.json": read_recipe,
    "any.pth.tar": load_model,
    "any.model": partial(load_model, trust=True),
    **{f"any.{ending}": load_structures for ending in ("xyz", "cif", "db", "dat")},
}


@pytest.mark.parametrize("file", READERS)
@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_refused(file, folder, content):
    assert read_or_none(READERS[file], folder / file, content) is None
