"""Files as people have them: their elements are read for certain, or asked for in a sentence."""

import gzip
import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.optimade import OptimadeStructureAdapter

from umlip_latents import extract_features, load_structures
from umlip_latents.resources import InputError

WATER = "3\n{}\n{} 0 0 0\n{} 0 0 1\n{} 0 1 0\n"
OHH = WATER.format("", *"OHH")
DUMP = """ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4
ITEM: ATOMS id type {}x y z fx fy fz\n2 2 {}2 2 2 1 1 1\n1 1 {}0 0 0 1 1 1\n"""
DATA = "LAMMPS\n\n2 atoms\n2 atom types\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n{}\n"
DATA += "Atoms # atomic\n\n2 {} 2 2 2\n1 {} 0 0 0\n"
CIF = "".join(f"_cell_length_{x} 4\n" for x in "abc")
CIF += "".join(f"_cell_angle_{x} 90\n" for x in ("alpha", "beta", "gamma"))
CIF = "data_{}\n" + CIF + "_space_group_name_H-M_alt 'P 1'\nloop_\n_atom_site_label\n"
CIF += "".join(f"_atom_site_fract_{x}\n" for x in "xyz") + "_atom_site_occupancy\n{}\n{}\n"
MODEL = "MODEL\nATOM      1  NA  MOL     1    " + 3 * "   0.000"
MODEL += "  {}  0.00          {}\nENDMDL\n"
MODELS = "CRYST1    4.000    4.000    4.000  90.00  90.00  90.00 P 1\n" + 2 * MODEL
POSCAR = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}1 1\nDirect\n0 0 0\n.5 .5 .5\n"
FIXED = POSCAR.replace("Dir", "Sel\nDir").replace("0\n.5 .5 .5", "0 F F T\n.5 .5 .5 T T T")
SLAB = '2\npbc="T T F" Lattice="4 0 0 0 4 0 0 0 0"\nNa 0 0 0\nCl 2 2 2\n'
GRO = "t\n 1\n    1SOL     OW    1   0.000   0.000   0.000\n 1 1 1\n"
CELL, SITES = Lattice.cubic(4), [[0, 0, 0], [0.5, 0.5, 0.5]]
SALT = Structure(CELL, ["Na", "Cl"], SITES).as_dict()
ALLOY = Structure(CELL, [{"Cu": 0.6, "Au": 0.4}], SITES[:1]).as_dict()
HYDROXYL = Molecule(["O", "D"], [[0, 0, 0], [0, 0, 1]]).as_dict()
OPTIMADE = OptimadeStructureAdapter.get_optimade_structure(Structure(CELL, ["Na", "Cl"], SITES))
HALF = [
    {"name": x, "chemical_symbols": [x, "vacancy"], "concentration": [0.5] * 2}
    for x in ("Na", "Cl")
]
HALF = {"data": [OPTIMADE, {"attributes": OPTIMADE["attributes"] | {"species": HALF}}]}
NO_CELL = {"lattice_vectors": [[None] * 3] * 3, "dimension_types": [0, 0, 0]}
PANDAS = {"index": [0, 1], "columns": ["structure", "y"], "data": [[SALT, 1.0], [SALT, 2.0]]}
# file, content, options, and what is read
READ = [
    ("a.lammpstrj", DUMP.format("", "", ""), {"types": {1: "Na", 2: "Cl"}}, ["NaCl"]),
    ("a.dump", 2 * DUMP.format("element ", "Cl ", "Na "), {}, ["NaCl", "NaCl"]),
    ("a.data", DATA.format("\nMasses\n\n1 22.99\n2 35.45\n", 2, 1), {}, ["NaCl"]),
    ("a.lmp", DATA.format("", 2, 1), {"types": "Na,Cl"}, ["NaCl"]),
    ("a.txt", DATA.format("", 2, 1), {"types": "Na,Cl", "format": "lammps-data"}, ["NaCl"]),
    ("c.lmp", DATA.format("\nAtom Type Labels\n\n1 Na\n2 Cl\n", "Cl", "Na"), {}, ["NaCl"]),
    ("a.cif", CIF.format("a", "Na1 0 0 0 1.0", "Cl1 .5 .5 .5 1."), {}, ["NaCl"]),
    ("b.cif", CIF.format("a", "O1 0 0 0 .", "D1 .5 .5 .5 1"), {}, ["OH"]),
    ("c.cif", CIF.format("a", "Na1 0 0 0 1", "Na2 1 0 0 1"), {}, ["Na"]),  # one site, listed twice
    ("crlf.cif", "\ufeff" + CIF.format("a", "Na 0 0 0 1", "").replace("\n", "\r\n"), {}, ["Na"]),
    ("a.pdb", MODELS.format("1.00", "NA", "1.00", "NA") + "END\n", {}, ["Na", "Na"]),
    ("POSCAR", POSCAR.format("Na_pv Cl\n"), {}, ["NaCl"]),
    ("old.vasp", POSCAR.format(""), {"types": ["Na", "Cl"]}, ["NaCl"]),
    ("d.vasp", POSCAR.format("O D\n"), {}, ["OH"]),
    ("volume.vasp", POSCAR.format("Na Cl\n").replace("1.0", "-64"), {}, ["NaCl"]),
    ("left.vasp", POSCAR.format("Na Cl\n").replace("4 0 0\n0 4 0", "0 4 0\n4 0 0"), {}, ["NaCl"]),
    ("fixed.vasp", FIXED.format("Na Cl\n"), {}, ["NaCl"]),
    ("b.json", json.dumps([SALT, HYDROXYL]), {}, ["NaCl", "OH"]),
    ("a.json.gz", gzip.compress(json.dumps(PANDAS).encode(), mtime=0), {}, ["NaCl", "NaCl"]),
    ("c.json", json.dumps(OPTIMADE), {}, ["NaCl"]),
    ("d.json", json.dumps(OPTIMADE["attributes"] | NO_CELL), {}, ["NaCl"]),
    ("a.xyz", WATER.format("", "O", "D", "T"), {}, ["OH2"]),
    ("b.xyz", WATER.format("", "8", "1", "1"), {}, ["OH2"]),
    ("c.xyz", WATER.format("", "2", "1", "1"), {"types": ["H", "O"]}, ["OH2"]),
    ("d.xyz", WATER.format("", "OW", "HW", "HW"), {"types": {"OW": "O", "HW": "H"}}, ["OH2"]),
    ("f.xyz", 2 * (WATER.format("i = 1, E = -17.1", *"OHH") + "\n"), {}, ["OH2", "OH2"]),
    ("g.xyz", "1\nProperties=type:I:1:pos:R:3\n1 0 0 0\n", {"types": ["Na"]}, ["Na"]),
    ("slab.xyz", SLAB, {}, ["NaCl"]),
    ("h.xyz", "1\nProperties=pos:R:3:Z:I:1\n0 0 0 8\n", {}, ["O"]),
    ("k.xyz", "1\n12345\nH 0 0 0\n", {}, ["H"]),
    ("i@0 j.xyz.gz", gzip.compress(OHH.encode(), mtime=0), {}, ["OH2"]),
]
REFUSED = [
    ("a.lammpstrj", DUMP.format("", "", ""), {}, "structure 0: atom 0 is '1'.*--types Na,Cl"),
    ("b.lammpstrj", DUMP.format("", "", ""), {"types": ["Na"]}, "atom 1 is '2', of no certain"),
    ("c.dump", DUMP.format("element ", "C ", "C "), {}, "atom 0 is '1'"),  # the default of LAMMPS
    ("a.data", DATA.format("", 2, 1), {}, "atom 0 is '1', of no certain element.*--types"),
    ("e.lmp", DATA.format("\nAtom Type Labels\n\n1 Ow\n2 Cl\n", "Cl", "Ow"), {}, "atom 0 is '1'"),
    ("b.data", DATA.format("\nMasses\n\n1 1.0\n2 1.0\n", 2, 1), {}, "of no certain element"),
    ("a.cif", CIF.format("a", "Cu1 0 0 0 .6", "Au1 0 0 0 .4"), {}, "0: .*ordered cell"),
    ("c.cif", CIF.format("a", "Cu1 0 0 0 1", "Au1 0 0 0 1"), {}, "sites are one"),
    ("d.cif", CIF.format("a", "Cu1 0 0 0 ?", "Au1 .5 0 0 1"), {}, r"occupied by \?"),
    ("e.cif", CIF.format("a", "CL1 0 0 0 1", ""), {}, "CL1 is of no certain element"),
    ("g.cif", CIF.format("a", "Cu,Au 0 0 0 1", ""), {}, "Cu,Au is of no certain element"),
    ("f.cif", 2 * CIF.format("a", "Cu 0 0 0 1", "Cu .5 0 0 .5"), {}, "f.cif, structure 0"),
    ("a.pdb", MODELS.format("1.00", "NA", "0.50", "NA"), {}, "structure 1: .*occupied by 0.5"),
    ("b.pdb", MODELS.format("1.00", "", "1.00", ""), {}, "no element in columns 77 and 78"),
    ("old.vasp", POSCAR.format(""), {}, "no line of elements.*--types"),
    ("a.json", json.dumps([SALT, ALLOY]), {}, "structure 1: its sites are occupied in part"),
    ("b.json", json.dumps(HALF), {}, "structure 1: its sites are occupied in part"),
    ("c.json", '{"a": 1}', {}, "ASE cannot read it"),
    ("a.gro", GRO, {}, "guesses the elements of gromacs"),
    ("a.xyz", WATER.format("", "O1", "H1", "H2"), {}, "atom 0 is 'O1', of no certain element"),
    ("b.xyz", 2 * WATER.format("", "2", "1", "1"), {}, "line 1, structure 0: atom 0 is '2'"),
    ("c.xyz", WATER.format("Atoms. Timestep: 0", "8", "1", "1"), {}, "atom 0 is '8'"),
    ("d.xyz", OHH + "1\n\nBq 0 0 0\n", {}, "line 6, structure 1: .* 'Bq'"),
    ("e.xyz", WATER.format("", *"OHX"), {}, "atom 2 is 'X'"),
    ("f.xyz", WATER.format('stress="1 2 3 4 5"', *"OHH"), {}, "line 1, .*stress has 5 numbers"),
    ("g.xyz", OHH + "\nVEC1 4 0 0\n", {}, "line 7, .*'VEC1 4 0 0' is no number"),
    ("h.xyz", "0\n\n", {}, "h.xyz: holds no structure"),
    ("i.xyz", OHH, {"types": ["Na", "Xx"]}, "types: 'Xx' is no element"),
    ("j.xyz", OHH, {"format": "extxy"}, "extxy: no such format .extxyz"),
    ("k.txt", "words\n", {}, "holds no structure in a known format"),
    ("l.xyz", WATER.format("energy=1", *"OHH"), {"energy_key": "E"}, "0: has no E"),
    ("n.xyz", "1\n\nH 0 0 0\n3\n\nH 0 0 0\n", {}, "1: announces 3 atoms, but 1 lines follow"),
    ("o.xyz", f"{10**15}\n\nH 0 0 0\n", {}, f"announces {10**15} atoms, but 1 lines follow"),
]


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write a file of some text or bytes, into the folder where the test runs."""
    monkeypatch.chdir(tmp_path)

    def save(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return save


@pytest.mark.parametrize(("name", "content", "options", "formulas"), READ)
def test_elements_are_those_of_the_file(name, content, options, formulas, save):
    found = load_structures(save(name, content), **options)
    assert [str(atoms.symbols) for atoms in found] == formulas
    for atoms in found:  # and nothing else has changed
        if str(atoms.symbols) == "NaCl":
            assert atoms.positions == pytest.approx(np.array([[0, 0, 0], [2, 2, 2]]))
        assert atoms.cell.volume == pytest.approx(64 * atoms.pbc.all())
        assert atoms.calc is None


@pytest.mark.parametrize(("name", "content", "options", "why"), REFUSED)
def test_what_is_not_certain_is_asked_for(name, content, options, why, save):
    save(name, content)
    with pytest.raises(InputError, match=why) as caught:
        load_structures(name, **options)
    assert name in str(caught.value) or "'Xx'" in why
    assert len(str(caught.value).splitlines()) == 1


def test_labels_stay_those_of_the_structure_they_were_written_for():
    assert load_structures("li3ps4-gfn1")[0].get_potential_energy() < -2000


# what is asked for in a folder of two lattices and a trajectory of five, and the lattice constants
SOURCES = {
    "cifs": [3, 4],
    "cifs/*.cif": [3],
    "*.traj@1:3": [3.1, 3.2],
    "run.traj@0": [3],
    "run.traj@-1": [3.4],
    "run.traj@::2": [3, 3.2, 3.4],
    "a@0 b.xyz": [5],
    ("run.traj@:1", "a@0 b.xyz@0"): [3, 5],
}


@pytest.mark.parametrize("source", SOURCES)
def test_folders_patterns_slices_and_several_files(source, save, capsys):
    save("cifs/README.md", "words")
    for name, lengths in {"cifs/b.xyz": [4], "cifs/a.cif": [3], "a@0 b.xyz": [5]}.items():
        write(name, [Atoms("Cu", cell=[a] * 3, pbc=True) for a in lengths])
    write("run.traj", [Atoms("Cu", cell=[3 + i / 10] * 3, pbc=True) for i in range(5)])
    found = load_structures(source)
    assert [atoms.cell[0, 0] for atoms in found] == pytest.approx(SOURCES[source])
    assert ("README.md" in capsys.readouterr().err) == (source == "cifs")
    for bad in ("run.traj@9", "run.traj@x", "*.cif"):
        with pytest.raises(InputError, match=re.escape(bad)):
            load_structures(bad)


def test_what_is_bad_or_empty_is_left_out_and_named(save, capsys):
    good, bad = OHH, WATER.format("", "O", "H", "Bq")
    found = load_structures([save("a.xyz", good + "0\n\n" + bad + good)], skip_bad=True)
    assert [str(atoms.symbols) for atoms in found] == ["OH2", "OH2"]
    empty, left_out = capsys.readouterr().err.splitlines()
    assert empty == "a.xyz, line 6, structure 1: has no atoms and is left out."
    assert re.match("left out: a.xyz, line 8, structure 2: atom 2 is 'Bq'", left_out)
    save("b.cif", 2 * CIF.format("a", "Cu 0 0 0 1", "").replace("data_a", "data_b"))
    assert len(load_structures(["a.xyz@0", save("c.cif", "data_"), "b.cif"], skip_bad=True)) == 3
    with pytest.raises(InputError, match=r"c.cif, a.xyz@2: holds no"):
        load_structures(["c.cif", "a.xyz@2"], skip_bad=True)


def test_labels_of_another_name_are_said_or_taken(save, capsys):
    keys = 'REF_energy=-1.5D0 REF_stress="1 6 5 6 2 4 5 4 3" energies=0'
    comment = f"Properties=species:S:1:pos:R:3:REF_forces:R:3 {keys}"
    name = save("a.xyz", f"2\n{comment}\nH 0 0 0 1 2 3\nH 0 0 1 4 5 6\n")
    assert load_structures(name)[0].calc is None
    assert "a.xyz: REF_energy, REF_forces, REF_stress not used" in capsys.readouterr().err
    (found,) = load_structures(name, energy_key="REF_energy")
    assert capsys.readouterr().err == ""
    assert found.get_potential_energy() == -1.5
    assert found.get_forces().tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.get_stress().tolist() == [1, 2, 3, 4, 5, 6]
    name = save("b.xyz", "1\nmtt::energy=2\nH 0 0 0\n")
    assert load_structures(name, energy_key="mtt::energy")[0].calc.results == {"energy": 2}
    comment = "energy=2 properties=species:S:1:pos:R:3:force:R:3"  # as GPUMD writes it
    name = save("c.xyz", f'1\nlattice="4 0 0 0 4 0 0 0 4" {comment}\nH 0 0 0 1 2 3\n')
    assert load_structures(name)[0].cell.volume == pytest.approx(64)
    assert "c.xyz: force not used" in capsys.readouterr().err
    for key in ("energy", "force"):
        (found,) = load_structures(name, energy_key=key)
        assert (found.get_potential_energy(), *found.get_forces()[0]) == (2, 1, 2, 3)
    name = save("d.xyz", comment.join(["1\n", "\nH 0 0 0 1 2 3\n"]).replace("energy=2 ", ""))
    assert {*load_structures(name, energy_key="force")[0].calc.results} == {"forces"}


def test_charges_and_spins_are_said_to_be_ignored(save, capsys):
    load_structures(save("a.xyz", WATER.format("charge=0 spin=1", *"OHH")))
    assert capsys.readouterr().err == ""
    load_structures(save("b.xyz", WATER.format("charge=-1 spin=2", *"OHH")))
    assert re.findall(r"b.xyz: (\w+) is ignored", capsys.readouterr().err) == ["charge", "spin"]
    load_structures(save("c.json", json.dumps(HYDROXYL | {"charge": -1, "spin_multiplicity": 1})))
    assert "c.json: charge is ignored" in capsys.readouterr().err


def test_mirror_images_have_the_same_features_and_other_isomers_do_not():
    one = Atoms(
        "CHFClBr", [(0, 0, 0), (0.6, 0.6, 0.6), (-0.8, -0.8, 0.8), (-1, 1, -1), (1, -1, -1)]
    )
    mirrored, other = one.copy(), one.copy()
    mirrored.positions[:, 0] *= -1
    other.positions[1:3] *= 1.1
    found = extract_features([one, mirrored, other], "mini-mace-mptrj", progress=False).features
    one, mirrored, other = np.split(found, 3)
    assert mirrored == pytest.approx(one, abs=1e-5)
    assert other != pytest.approx(one, abs=1e-2)
