"""Loading, checking and splitting structures."""

import runpy

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import covalent_radii
from ase.geometry import find_mic
from ase.io import read, write
from ase.neighborlist import neighbor_list

from umlip_latents import list_datasets, load_structures, structures
from umlip_latents.resources import DATA, InputError
from umlip_latents.structures import CLOSEST, NEAR, check_structure, fingerprint


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


LATTICE = '1\npbc="T T T" Lattice="{}"\nH 0 0 0\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or data set"),
        ("", "holds no structure|ASE cannot read"),
        ("not a structure\nat all\n", "ASE cannot read"),
        ("1\n\nH 0 0 nan\n", "structure 0: has a position"),
        (LATTICE.format("0 0 0 0 1 0 0 0 1"), "high along its periodic vector 0"),
        (LATTICE.format("1 0 0 1 0 0 0 0 1"), "high along its periodic vector 0"),
        ("1\n\nX 0 0 0\n", "unknown element"),
        ("2\n\nH 0 0 0\nH 0 0 0.05\n", "atoms 0 and 1 are 0.05 angstrom apart"),
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


CUBE = np.eye(3)
PAIR = [(0, 0, 0), (0, 0, 2)]
DENSE = np.array(np.meshgrid(*[np.arange(0, 4, 0.2)] * 3)).T.reshape(
    -1, 3
)  # 125 per cubic angstrom


@pytest.mark.parametrize(
    ("atoms", "why"),
    [
        (Atoms(), "has no atoms"),
        (Atoms("H", [(0, np.inf, 0)]), "not a finite number"),
        (Atoms("H", cell=[np.nan, 1, 1]), "not a finite number"),
        (Atoms([119]), "atom 0 is of unknown element, its atomic number is 119"),
        (Atoms([1, -3], PAIR), "atom 1 is of unknown element"),
        (Atoms("H2", PAIR, cell=[4, 4, 0], pbc=True), "along its periodic vector 2"),
        (Atoms("H", cell=[(4, 0, 0), (8, 0, 0), (0, 0, 9)], pbc=(1, 1, 0)), "periodic vector 0"),
        (Atoms("H", cell=[(4, 0, 0), (8, 0.4, 0), (0, 0, 9)], pbc=(1, 1, 0)), "periodic vector"),
        (Atoms("H", cell=[3, 3, 0.49], pbc=(0, 0, 1)), "along its periodic vector 2"),
        (Atoms("H2", [(0, 0, 0), (1e9, 0, 0)]), "extends over 1e.09 angstrom"),
        (Atoms("H2", [(0, 0, 0), (0, 1e300, 0)]), "extends over 1e.300 angstrom"),
        (Atoms("Cu2", [(0, 0, 0), (0, 0, 1001)], cell=[2, 2, 9], pbc=(1, 1, 0)), "1e.03 angstrom"),
        (Atoms("H", cell=1e4 * CUBE, pbc=True), "extends over 1e.04 angstrom"),
        (Atoms("H", cell=0.5 * CUBE, pbc=True), "about 7.24e.03 neighbours within 6 angstrom"),
        (Atoms(["H"] * 8000, DENSE), "neighbours within 6 angstrom, more than 1500"),
        (Atoms("HO", [(1, 1, 1)] * 2), "atoms 0 and 1 are 0 angstrom apart"),
        (Atoms("H3", [*PAIR, (0, 0, 2.09)]), "atoms 1 and 2 are 0.09 angstrom apart"),
        (Atoms("H2", [(0, 0, 0), (0, 0, 3.95)], cell=4 * CUBE, pbc=True), "0.05 angstrom apart"),
        (Atoms("H2", [(0, 0, 0), (9e3, 0, 0)], cell=3 * CUBE, pbc=True), "0 angstrom apart"),
    ],
)
def test_structures_that_make_no_sense_are_refused_in_a_sentence(atoms, why):
    with pytest.raises(InputError, match=f"here: .*{why}") as caught:
        check_structure(atoms, "here")
    assert len(str(caught.value).splitlines()) == 1


def test_close_atoms_are_found_as_a_neighbour_list_finds_them():
    """In skewed cells of any periodicity, at distances around the least one."""
    rng, found = np.random.default_rng(7), []
    for _ in range(120):
        atoms = Atoms("H6", cell=rng.normal(size=(3, 3)) * 3, pbc=rng.random(3) < 0.6)
        atoms.positions[:] = rng.normal(size=(6, 3)) * 4
        atoms.positions[5] = atoms.positions[4] + rng.normal(size=3) * 0.06
        atoms.positions[5] += rng.integers(-2, 3, 3) * atoms.pbc @ atoms.cell
        i, d = neighbor_list("id", atoms, CLOSEST)
        try:
            check_structure(atoms, "here")
        except InputError as error:
            why = str(error)
        else:
            why = ""
        if "angstrom high" not in why:
            apart = f"atoms {min(i)} and {max(i)} are {min(d):.2g} angstrom apart" if len(d) else ""
            assert apart in why
            assert bool(apart) == bool(why)
            found.append(bool(apart))
    assert 20 < sum(found) < len(found) - 20


@pytest.mark.parametrize(
    ("atoms", "factor"),
    [
        (bulk("Cu", "sc", a=0.9), 1.05),
        (bulk("Cu", "fcc", a=1.3), 1.05),
        (bulk("Cu", "fcc", a=3.6, cubic=True), 1.5),
        (fcc111("Al", (3, 3, 3), vacuum=8), 1.5),
        (bulk("Si", cubic=True).repeat(3), 2),
    ],
)
def test_the_estimate_of_neighbours_is_near_their_number(monkeypatch, atoms, factor):
    n = len(neighbor_list("i", atoms, NEAR)) / len(atoms)
    monkeypatch.setattr(structures, "MOST", n * factor)
    check_structure(atoms, "here")
    monkeypatch.setattr(structures, "MOST", n / factor)
    with pytest.raises(InputError, match="neighbours within 6 angstrom"):
        check_structure(atoms, "here")


def test_ordinary_structures_pass():
    for atoms in (
        bulk("H", "sc", a=0.9),
        molecule("H2"),
        fcc111("Al", (2, 2, 2), vacuum=8),
        Atoms("C", cell=[(0, 0, 1.4), (0, 0, 0), (0, 0, 0)], pbc=(1, 0, 0)),
        Atoms("H2", [(0, 0, 0), (0, 0, 999)]),
    ):
        check_structure(atoms, "here")


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
