"""Loading, checking and splitting structures."""

import runpy
from contextlib import nullcontext

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import find_mic
from ase.io import read, write
from ase.neighborlist import neighbor_list

from umlip_latents import load_structures
from umlip_latents.resources import DATA, InputError
from umlip_latents.structures.checks import MIN_DISTANCE, check_structure
from umlip_latents.structures.describe import fingerprint


@pytest.fixture(scope="module")
def embedded():
    return load_structures("embedded")


@pytest.mark.slow
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


def test_a_changed_or_unverified_data_set_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mptrj-random-1k.xyz").write_text("1\n\nH 0 0 0\n")
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"SHA-256 is .* the registry"):
        load_structures("mptrj-random-1k")
    with pytest.raises(InputError, match="no verified SHA-256"):
        load_structures("mad-test")


CUBE = np.eye(3)
PAIR = [(0, 0, 0), (0, 0, 2)]
DENSE = np.stack(np.meshgrid(*[np.arange(0, 4, 0.2)] * 3), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize(
    ("atoms", "why"),
    [
        (Atoms(), "has no atoms"),
        (Atoms("H", [(0, np.inf, 0)]), "not a finite number"),
        (Atoms([1, 119], PAIR), "atom 1 is of unknown element, its atomic number is 119"),
        (Atoms("H2", PAIR, cell=[4, 4, 0], pbc=True), "along its periodic vector 2"),
        (Atoms("H", cell=[(4, 0, 0), (8, 0, 0), (0, 0, 9)], pbc=(1, 1, 0)), "periodic vector 0"),
        (Atoms("H", cell=[3, 3, 0.49], pbc=(0, 0, 1)), "along its periodic vector 2"),
        (Atoms("H2", [(0, 0, 0), (0, 1e300, 0)]), "extends over 1e.300 angstrom"),
        (Atoms("Cu2", [(0, 0, 0), (0, 0, 1001)], cell=[2, 2, 9], pbc=(1, 1, 0)), "1e.03 angstrom"),
        (Atoms("H", cell=0.5 * CUBE, pbc=True), "about 7.24e.03 neighbours within 6 angstrom"),
        (Atoms(["H"] * 8000, DENSE), "neighbours within 6 angstrom, more than 1500"),
        (Atoms("H3", [*PAIR, (0, 0, 2.09)]), "atoms 1 and 2 are 0.09 angstrom apart"),
        (Atoms("H2", [(0, 0, 0), (9e3, 0, 3.95)], cell=4 * CUBE, pbc=True), "0.05 angstrom apart"),
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
        cell = 5 * np.eye(3) + rng.normal(size=(3, 3))
        atoms = Atoms("H6", rng.normal(size=(6, 3)) * 4, cell=cell, pbc=rng.random(3) < 0.6)
        atoms.positions[5] = atoms.positions[4] + rng.normal(size=3) * 0.06
        atoms.positions[5] += rng.integers(-2, 3, 3) * atoms.pbc @ atoms.cell
        i, d = neighbor_list("id", atoms, MIN_DISTANCE)
        refused = nullcontext()
        if len(d):
            words = f"atoms {min(i)} and {max(i)} are {min(d):.2g} angstrom apart"
            refused = pytest.raises(InputError, match=words)
        with refused:
            check_structure(atoms, "here")
        found.append(len(d) > 0)
    assert 20 < sum(found) < len(found) - 20


def test_a_fingerprint_sees_geometry_and_nothing_else(tmp_path, embedded):
    write(tmp_path / "copy.xyz", embedded[:20], format="extxyz")
    copy = read(tmp_path / "copy.xyz", ":")
    copy[0].info["note"] = "irrelevant"
    assert fingerprint(copy) == fingerprint(embedded[:20])
    copy[0].positions[0, 0] += 1e-9
    assert fingerprint(copy) != fingerprint(embedded[:20])
