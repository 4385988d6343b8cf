"""Loading, checking and splitting structures."""

import runpy

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii
from ase.geometry import find_mic
from ase.io import read, write
from ase.neighborlist import neighbor_list

from umlip_latents import list_datasets, load_structures
from umlip_latents.resources import DATA, InputError
from umlip_latents.structures import check_structure, fingerprint


@pytest.fixture(scope="module")
def embedded():
    return load_structures("embedded")


def test_embedded_set_is_as_diverse_as_promised(embedded):
    sizes = [len(a) for a in embedded]
    assert len(embedded) >= 600
    assert 8000 <= sum(sizes) <= 12000
    assert max(sizes) <= 64
    assert len(np.unique(np.concatenate([a.numbers for a in embedded]))) >= 80
    kinds = {"bulk", "rattled", "random", "surface", "cluster", "2d", "molecule", "dimer"}
    assert {a.info["subset"] for a in embedded} == kinds
    entry = list_datasets()["embedded"]
    assert (entry["structures"], entry["atoms"]) == (len(embedded), sum(sizes))


def test_embedded_atoms_neither_clash_nor_float(embedded):
    for atoms in embedded:
        i, j, d = neighbor_list("ijd", atoms, 5.0)
        radii = covalent_radii[atoms.numbers]
        assert (d > 0.69 * (radii[i] + radii[j])).all(), atoms.info
        assert len(np.unique(i)) == len(atoms), atoms.info


def test_embedded_crystals_are_not_denser_than_matter(embedded):
    for atoms in embedded:
        if atoms.pbc.all():
            assert atoms.get_volume() / len(atoms) >= 3.0, atoms.info


def test_embedded_set_is_what_its_builder_builds(embedded):
    rebuilt = runpy.run_path(str(DATA / "structures" / "build.py"))["build"]()
    assert len(rebuilt) == len(embedded)
    for new, old in zip(rebuilt, embedded, strict=True):
        assert new.info["subset"] == old.info["subset"]
        assert (new.numbers == old.numbers).all()
        assert (new.pbc == old.pbc).all()
        assert new.cell.array == pytest.approx(old.cell.array, abs=1e-6)
        _, moved = find_mic(new.positions - old.positions, old.cell, old.pbc)
        assert moved.max() < 1e-6, old.info


@pytest.mark.parametrize("suffix", ["xyz", "cif", "vasp", "traj", "db", "json"])
def test_every_format_of_ase_is_read(tmp_path, suffix):
    path = tmp_path / f"POSCAR.{suffix}"
    write(path, bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    loaded = load_structures(path)
    assert [sorted(a.symbols) for a in loaded] == [["Cl"] * 4 + ["Na"] * 4]
    assert loaded[0].cell.volume == pytest.approx(5.64**3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or data set"),
        ("", "holds no structure|ASE cannot read"),
        ("not a structure\nat all\n", "ASE cannot read"),
        ("1\n\nH 0 0 nan\n", "structure 0: has a position"),
        ('1\npbc="T T T" Lattice="0 0 0 0 1 0 0 0 1"\nH 0 0 0\n', "high along its periodic vector 0"),
        ('1\npbc="T T T" Lattice="1 0 0 1 0 0 0 0 1"\nH 0 0 0\n', "high along its periodic vector 0"),
        ("1\n\nX 0 0 0\n", "unknown element"),
    ],
)
def test_unusable_files_are_named_with_the_reason(tmp_path, content, message):
    path = tmp_path / "broken.xyz"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_structures(path)
    assert "broken.xyz" in str(caught.value)


def test_a_changed_or_unverified_data_set_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mptrj-random-1k.xyz").write_text("1\n\nH 0 0 0\n")
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    with pytest.raises(InputError, match="the registry expects"):
        load_structures("mptrj-random-1k")
    with pytest.raises(InputError, match="no verified SHA-256"):
        load_structures("mad-test")


def test_every_registered_set_says_what_it_is():
    for name, entry in list_datasets().items():
        assert entry["description"], name
        assert entry["licence"], name
        assert entry["citation"], name
        assert "path" in entry or entry.get("url", entry.get("landing_page")).startswith("https://")


def test_empty_structures_are_refused():
    with pytest.raises(InputError, match="has no atoms"):
        check_structure(Atoms(), "here")


def test_fingerprint_sees_geometry_and_nothing_else():
    one, other = molecule("H2O"), molecule("H2O")
    other.info["note"] = "irrelevant"
    assert fingerprint([one]) == fingerprint([other])
    other.positions[0, 0] += 1e-9
    assert fingerprint([one]) != fingerprint([other])


def test_a_file_written_and_read_again_has_the_same_fingerprint(tmp_path, embedded):
    write(tmp_path / "copy.xyz", embedded[:20], format="extxyz")
    again = read(tmp_path / "copy.xyz", ":")
    assert fingerprint(again) == fingerprint(embedded[:20])
