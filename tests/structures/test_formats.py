"""Files as people have them: their elements are read for certain, or asked for in a sentence."""

import gzip
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from umlip_latents import load_structures
from umlip_latents.resources import InputError

NACL, WATER = [("Na", 0), ("Cl", 2)], "3\n{}\n{} 0 0 0\n{} 0 0 1\n{} 0 1 0\n"
DUMP = """ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4
ITEM: ATOMS id type {}x y z fx fy fz\n2 2 {}2 2 2 1 1 1\n1 1 {}0 0 0 1 1 1\n"""
DATA = "LAMMPS\n\n2 atoms\n2 atom types\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n{}\n"
DATA += "Atoms # atomic\n\n2 {} 2 2 2\n1 {} 0 0 0\n"
CIF = "".join(f"_cell_length_{x} 4\n" for x in "abc")
CIF += "".join(f"_cell_angle_{x} 90\n" for x in ("alpha", "beta", "gamma"))
CIF = "data_{}\n" + CIF + "_space_group_name_H-M_alt 'P 1'\nloop_\n_atom_site_label\n"
CIF += "".join(f"_atom_site_fract_{x}\n" for x in "xyz") + "_atom_site_occupancy\n{}\n{}\n"
MODEL = (
    "MODEL\nATOM      1  NA  MOL     1       0.000   0.000   0.000  {}  0.00          {}\nENDMDL\n"
)
MODELS = "CRYST1    4.000    4.000    4.000  90.00  90.00  90.00 P 1\n" + 2 * MODEL
POSCAR = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}1 1\nDirect\n0 0 0\n.5 .5 .5\n"
GRO = "t\n 1\n    1SOL     OW    1   0.000   0.000   0.000\n 1 1 1\n"
CELL, SITES = Lattice.cubic(4), [[0, 0, 0], [0.5, 0.5, 0.5]]
SALT = Structure(CELL, ["Na", "Cl"], SITES).as_dict()
ALLOY = Structure(CELL, [{"Cu": 0.6, "Au": 0.4}], SITES[:1]).as_dict()
HYDROXYL = Molecule(["O", "D"], [[0, 0, 0], [0, 0, 1]]).as_dict()


def optimade(share: float) -> dict:
    """An answer of OPTIMADE, one of whose sites is occupied by a share."""
    symbols = {"Na": [("Na", share), ("vacancy", 1 - share)], "Cl": [("Cl", 1)]}
    kinds = [
        {"name": n, "chemical_symbols": [s for s, _ in p], "concentration": [c for _, c in p]}
        for n, p in symbols.items()
    ]
    entry = {"lattice_vectors": (4 * np.eye(3)).tolist(), "dimension_types": [1, 1, 1]}
    entry |= {"cartesian_site_positions": [[0, 0, 0], [2, 2, 2]]}
    entry |= {"species": kinds, "species_at_sites": ["Na", "Cl"]}
    return {"data": [{"id": "1", "attributes": entry}]}


PANDAS = {"index": [0, 1], "columns": ["structure", "y"], "data": [[SALT, 1.0], [SALT, 2.0]]}
# file, content, options, and what is read
READ = [
    ("a.lammpstrj", DUMP.format("", "", ""), {"types": ["Na", "Cl"]}, ["NaCl"]),
    ("a.dump", 2 * DUMP.format("element ", "Cl ", "Na "), {}, ["NaCl", "NaCl"]),
    ("a.data", DATA.format("\nMasses\n\n1 22.99\n2 35.45\n", 2, 1), {}, ["NaCl"]),
    ("a.lmp", DATA.format("", 2, 1), {"types": "Na,Cl"}, ["NaCl"]),
    ("a.txt", DATA.format("", 2, 1), {"types": "Na,Cl", "format": "lammps-data"}, ["NaCl"]),
    ("b.lmp", DATA.format("\nAtom Type Labels\n\n1 Na\n2 Cl\n", 2, 1), {}, ["NaCl"]),
    ("c.lmp", DATA.format("\nAtom Type Labels\n\n1 Na\n2 Cl\n", "Cl", "Na"), {}, ["NaCl"]),
    ("a.cif", CIF.format("a", "Na1 0 0 0 1.0", "Cl1 .5 .5 .5 1."), {}, ["NaCl"]),
    ("b.cif", CIF.format("a", "O1 0 0 0 .", "D1 .5 .5 .5 1"), {}, ["OH"]),
    ("crlf.cif", "\ufeff" + CIF.format("a", "Na 0 0 0 1", "").replace("\n", "\r\n"), {}, ["Na"]),
    ("a.pdb", MODELS.format("1.00", "NA", "1.00", "NA") + "END\n", {}, ["Na", "Na"]),
    ("POSCAR", POSCAR.format("Na_pv Cl\n"), {}, ["NaCl"]),
    ("old.vasp", POSCAR.format(""), {"types": ["Na", "Cl"]}, ["NaCl"]),
    ("d.vasp", POSCAR.format("O D\n"), {}, ["OH"]),
    ("a.json", json.dumps(SALT), {}, ["NaCl"]),
    ("b.json", json.dumps([SALT, HYDROXYL]), {}, ["NaCl", "OH"]),
    ("a.json.gz", gzip.compress(json.dumps(PANDAS).encode()), {}, ["NaCl", "NaCl"]),
    ("c.json", json.dumps(optimade(1)), {}, ["NaCl"]),
    ("a.xyz", WATER.format("", "O", "D", "T"), {}, ["OH2"]),
    ("b.xyz", WATER.format("", "8", "1", "1"), {}, ["OH2"]),
    ("c.xyz", WATER.format("", "2", "1", "1"), {"types": ["H", "O"]}, ["OH2"]),
    ("d.xyz", WATER.format("", "OW", "HW", "HW"), {"types": {"OW": "O", "HW": "H"}}, ["OH2"]),
    ("e.xyz", "\ufeff" + WATER.format("", "O", "H", "H"), {}, ["OH2"]),
    ("f.xyz", 2 * (WATER.format("i = 1, E = -17.1", *"OHH") + "\n"), {}, ["OH2", "OH2"]),
    ("g.xyz", "1\nProperties=type:I:1:pos:R:3\n1 0 0 0\n", {"types": ["Na"]}, ["Na"]),
    ("h.xyz", "1\nProperties=pos:R:3:Z:I:1\n0 0 0 8\n", {}, ["O"]),
    ("i@0 j.xyz.gz", gzip.compress(WATER.format("", *"OHH").encode()), {}, ["OH2"]),
]
MIXED = "occupied"
REFUSED = [
    ("a.lammpstrj", DUMP.format("", "", ""), {}, "structure 0: atom 0 is '1'.*--types Na,Cl"),
    ("b.lammpstrj", DUMP.format("", "", ""), {"types": ["Na"]}, "atom 1 is '2', of no certain"),
    ("c.dump", DUMP.format("element ", "C ", "C "), {}, "atom 0 is '1'"),  # the default of LAMMPS
    ("a.data", DATA.format("", 2, 1), {}, "type of no certain element.*--types"),
    ("b.data", DATA.format("\nMasses\n\n1 1.0\n2 1.0\n", 2, 1), {}, "of no certain element"),
    ("a.cif", CIF.format("a", "Cu1 0 0 0 .6", "Au1 0 0 0 .4"), {}, "0: .*ordered cell"),
    ("b.cif", CIF.format("a", "Cu1 0 0 0 .75", ""), {}, "0.75; give an ordered cell"),
    ("c.cif", CIF.format("a", "Cu1 0 0 0 1", "Au1 0 0 0 1"), {}, "sites are one"),
    ("d.cif", CIF.format("a", "Cu1 0 0 0 ?", "Au1 .5 0 0 1"), {}, r"occupied by \?"),
    ("e.cif", CIF.format("a", "CL1 0 0 0 1", ""), {}, "CL1 is of Cl or C"),
    ("f.cif", 2 * CIF.format("a", "Cu 0 0 0 1", "Cu .5 0 0 .5"), {}, "f.cif, structure 0"),
    ("a.pdb", MODELS.format("1.00", "NA", "0.50", "NA"), {}, "structure 1: .*occupied by 0.5"),
    ("b.pdb", MODELS.format("1.00", "", "1.00", ""), {}, "no element in columns 77 and 78"),
    ("old.vasp", POSCAR.format(""), {}, "no line of elements.*--types"),
    ("a.json", json.dumps([SALT, ALLOY]), {}, "structure 1: its sites are occupied in part"),
    ("b.json", json.dumps(optimade(0.5)), {}, "structure 0: its sites are occupied in part"),
    ("c.json", '{"a": 1}', {}, "ASE cannot read it"),
    ("a.gro", GRO, {}, "guesses the elements of gromacs"),
    ("a.xyz", WATER.format("", "O1", "H1", "H2"), {}, "atom 0 is 'O1', of no certain element"),
    ("b.xyz", 2 * WATER.format("", "2", "1", "1"), {}, "line 1, structure 0: atom 0 is '2'"),
    ("c.xyz", WATER.format("Atoms. Timestep: 0", "8", "1", "1"), {}, "atom 0 is '8'"),
    ("d.xyz", WATER.format("", *"OHH") + "1\n\nBq 0 0 0\n", {}, "line 6, structure 1: .* 'Bq'"),
    ("e.xyz", WATER.format("", *"OHX"), {}, "atom 2 is 'X'"),
    ("f.xyz", WATER.format('stress="1 2 3 4 5"', *"OHH"), {}, "line 1, structure 0: .*stress"),
    ("g.xyz", WATER.format("", *"OHH") + "\nnotes\n", {}, "line 7, .*'notes' is no number"),
    ("h.xyz", "0\n\n", {}, "h.xyz: holds no structure"),
    ("i.xyz", WATER.format("", *"OHH"), {"types": ["Na", "Xx"]}, "types: 'Xx' is no element"),
    ("j.xyz", WATER.format("", *"OHH"), {"format": "extxy"}, "extxy: no such format .extxyz"),
    ("k.txt", "words\n", {}, "holds no structure in a format that is known"),
    (
        "l.xyz",
        WATER.format("energy=1", *"OHH"),
        {"energy_key": "REF_energy"},
        "0: has no REF_energy",
    ),
]


def save(folder, name, content):
    """A file of some text or bytes."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("name", "content", "options", "formulas"), READ)
def test_elements_are_those_of_the_file(name, content, options, formulas, tmp_path):
    found = load_structures(save(tmp_path, name, content), **options)
    assert [str(atoms.symbols) for atoms in found] == formulas
    for atoms in found:  # and nothing else has changed
        if str(atoms.symbols) == "NaCl":
            assert atoms.positions == pytest.approx(np.array([[0, 0, 0], [2, 2, 2]]))
        assert atoms.cell.volume == pytest.approx(64 * atoms.pbc.all())
        assert atoms.calc is None


@pytest.mark.parametrize(("name", "content", "options", "why"), REFUSED)
def test_what_is_not_certain_is_asked_for(name, content, options, why, tmp_path):
    path = save(tmp_path, name, content)
    with pytest.raises(InputError, match=why) as caught:
        load_structures(path, **options)
    assert name in str(caught.value) or options
    assert len(str(caught.value).splitlines()) == 1


def test_labels_stay_those_of_the_structure_they_were_written_for():
    assert load_structures("li3ps4-gfn1")[0].get_potential_energy() < -2000
