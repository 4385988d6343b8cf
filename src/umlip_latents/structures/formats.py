"""The frames of a file by its format. Elements are read, never guessed."""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.io import read
from ase.io.cif import CIFBlock, parse_cif
from ase.io.formats import UnknownFileTypeError, filetype, ioformats, open_with_compression
from scipy.spatial import cKDTree

from ..resources import InputError, unknown_name

Types = Mapping[str, str]  # from a type or label of a file to its element
Frames = Iterable[tuple[str, Callable[[], Atoms]]]  # the line of each if known, and what parses it

HYDROGENS = {"D": 1, "T": 1}  # which no model tells apart, and ASE does not know
ELEMENTS = {symbol: z for symbol, z in atomic_numbers.items() if z > 0} | HYDROGENS
TELL = "tell which, as types=['Na', 'Cl'] or {'OW': 'O'} (--types Na,Cl or --types OW=O)"
# formats whose readers take elements from names or masses, or take hydrogen
GUESSED = ("dlp4", "dlp-history", "gpumd", "gromacs", "gromos", "netcdftrajectory")
FORTRAN = re.compile(r"(?<![\w.])([-+]?(?:\d+\.\d*|\.\d+))[dD]([-+]?\d+)(?!\w)")  # such as 1.0D0
ORDERED = "give an ordered cell"


def read_types(types: str | Sequence[str] | Types) -> dict[str, str]:
    """Types or labels to elements; those without a label are of the types 1, 2 and so on.

    Examples
    --------
    >>> read_types("Na,Cl")
    {'1': 'Na', '2': 'Cl'}
    >>> read_types(["OW=O", "HW=H"])
    {'OW': 'O', 'HW': 'H'}
    """
    types = types.split(",") if isinstance(types, str) else types
    if not isinstance(types, Mapping):
        pairs = [str(text).strip().rpartition("=") for text in types]
        types = {label or str(i): element for i, (label, _, element) in enumerate(pairs, 1)}
    if odd := [element for element in types.values() if element not in ELEMENTS]:
        raise InputError(f"types: {odd[0]!r} is no element.")
    return {str(label): element for label, element in types.items()}


def find_format(path: Path) -> str | None:
    """ASE's name of the format of a file, None if it is none of structures."""
    with open_with_compression(str(path), "rb") as file:
        lammps = re.search(rb"^\s*\d+\s+atom types\s", file.read(10_000), re.MULTILINE)
    with suppress(UnknownFileTypeError):
        name = "lammps-data" if lammps else filetype(str(path))
        return name if name in ioformats and ioformats[name].can_read else None


def list_frames(path: Path, name: str | None, types: Types) -> Frames:
    """Each frame of a file, to be parsed."""
    if name and name not in ioformats:
        raise unknown_name(name, "format", ioformats)
    if not (name := name or find_format(path)):
        raise InputError("holds no structure in a known format; format (--format) tells it.")
    if name in GUESSED:
        raise InputError(f"ASE guesses the elements of {name} files; convert it to extended XYZ.")
    if name not in READERS:
        return as_frames(read(path, ":", name, do_not_split_by_at_sign=True))
    with open_with_compression(str(path), "rb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace").read()
    return READERS[name](FORTRAN.sub(r"\1E\2", text), types)


def as_frames(structures: Iterable[Atoms]) -> Frames:
    """Structures that are parsed already."""
    return [("", lambda atoms=atoms: atoms) for atoms in structures]


def set_elements(atoms: Atoms, labels: Sequence, types: Types, known: Mapping[str, int]) -> Atoms:
    """Give each atom the element that `types`, or else `known`, has for its label."""
    known = {**known, **{label: ELEMENTS.get(types[label], 0) for label in types}}
    labels = [*map(str, labels)]
    numbers = [known.get(label, known.get(label.capitalize(), 0)) for label in labels]
    if 0 in numbers:
        index = numbers.index(0)
        raise InputError(f"atom {index} is {labels[index]!r}, of no certain element; {TELL}.")
    atoms.numbers = numbers
    if atoms.calc:
        atoms.calc.atoms = atoms.copy()  # or its results would be those of others
    return atoms


def read_xyz(text: str, types: Types) -> Frames:
    """Frames of a plain or extended XYZ file; blank lines may stand between them."""
    lines, start = text.removesuffix("\n").split("\n"), 0
    while start < len(lines):
        count, end = lines[start].strip(), start + 1
        if count:
            end = start + 2 + int(count) if count.isdecimal() else len(lines)
            yield f", line {start + 1}", partial(parse_xyz, lines[start:end], types)
        start = end


def parse_xyz(lines: list[str], types: Types) -> Atoms:
    """One frame. Its species are labels, as some write LAMMPS types there and some numbers."""
    count, comment, rows = lines[0].strip(), "".join(lines[1:2]), lines[2:]
    if not count.isdecimal():
        raise InputError(f"ASE cannot read it ({count[:40]!r} is no number of atoms).")
    if len(rows) < int(count):
        raise InputError(f"announces {count} atoms, but {len(rows)} lines follow.")
    comment = re.sub(r"\b(lattice|properties)=", lambda key: key[0].capitalize(), comment)  # GPUMD
    if "Properties=" not in comment:
        comment = f"Properties=species:S:1:pos:R:3 {comment}"
    comment = re.sub(r"\b(species|symbols):S:1\b", "_label:S:1", comment)
    for key, value in re.findall(r'\b(Lattice|stress|virial)="([^"]*)"', comment):
        if (n := len(re.findall(r"[^\s,]+", value))) != 9:
            raise InputError(f"its {key} has {n} numbers, not 9.")
    atoms = read(io.StringIO("\n".join([count, comment, *rows])), format="extxyz")
    labels = atoms.arrays.pop("_label", atoms.arrays.get("element", atoms.arrays.get("type")))
    if labels is None or atoms.numbers.any():
        return atoms
    numbers = {int(label) for label in labels if str(label).isdecimal()}
    if "Timestep" in comment or numbers == {*range(1, len(numbers) + 1)}:  # types, it seems
        numbers = set()
    return set_elements(atoms, labels, types, ELEMENTS | {str(z): z for z in numbers})


def read_cif(text: str, types: Types) -> Frames:
    """The blocks that have sites."""
    blocks = parse_cif(io.StringIO(text))
    return [("", partial(parse_block, block)) for block in blocks if block.has_structure()]


def parse_block(block: CIFBlock) -> Atoms:
    """A cell, of which ASE keeps the first of the sites that are one.

    Labels in capitals or of several elements, of which it takes the first, are refused.
    """
    for label in block.get("_atom_site_type_symbol", block.get("_atom_site_label")):
        if "," in label or (re.match("[A-Z]{2}", label) and label[:2].capitalize() in ELEMENTS):
            raise InputError(f"its site {label} is of no certain element; write which.")
    atoms, listed = block.get_atoms(), block.get_unsymmetrized_structure()
    kept, sites = (a.get_scaled_positions() % 1 % 1 for a in (atoms, listed))
    nearest = cKDTree(kept, boxsize=1).query(sites)[1]
    if atoms.pbc.all() and (atoms.numbers[nearest] != listed.numbers).any():
        raise InputError(f"two of its sites are one, but not of one element; {ORDERED}.")
    return atoms


def read_json(text: str, types: Types) -> Frames:
    """Structures of pymatgen or OPTIMADE, wherever they stand, or those of ASE."""
    found = []

    def collect(node: dict) -> dict:
        if "sites" in node or "cartesian_site_positions" in node:
            found.append(("", partial(parse_json, node)))
        return node

    json.loads(text, object_hook=collect)
    return found or as_frames(read(io.StringIO(text), ":", "json"))


def parse_json(node: dict) -> Atoms:
    """A Structure or Molecule of pymatgen, or an OPTIMADE entry.

    pymatgen's adapter of OPTIMADE takes no account of disorder.
    """
    from pymatgen.core import Molecule, Structure  # slow to import

    if "sites" in node:
        found = (Structure if "lattice" in node else Molecule).from_dict(node)
        if found.is_ordered:
            atoms = found.to_ase_atoms(msonable=False)
            atoms.info["charge"] = node.get("charge") or 0
            return atoms
    elif all(kind["concentration"] == [1] for kind in node["species"]):
        symbols = {kind["name"]: kind["chemical_symbols"][0] for kind in node["species"]}
        symbols = [symbols[name] for name in node["species_at_sites"]]
        # null stands for no vector
        cell = np.nan_to_num(np.array(node.get("lattice_vectors") or [[0] * 3] * 3, dtype=float))
        pbc = node.get("dimension_types") or cell.any(axis=1)
        return Atoms(symbols, node["cartesian_site_positions"], cell=cell, pbc=pbc)
    raise InputError(f"its sites are occupied in part; {ORDERED}.")


def read_pdb(text: str, types: Types) -> Frames:
    """The models. What stands above the first, such as its cell, holds for all."""
    text = re.sub(r"^((?:ATOM  |HETATM).{70}) [DT]\b", r"\1 H", text, flags=re.MULTILINE)
    rows = re.findall(r"^(?:ATOM|HETATM).*", text, re.MULTILINE)
    if not all(row[76:78].strip().capitalize() in ELEMENTS for row in rows):
        raise InputError("an atom has a name, but no element in columns 77 and 78; write it there.")
    structures = read(io.StringIO(text), ":", "proteindatabank")
    for atoms in structures:
        if not atoms.pbc.any():
            atoms.cell, atoms.pbc = structures[0].cell, structures[0].pbc
    return as_frames(structures)


def read_poscar(text: str, types: Types) -> Frames:
    """A POSCAR; VASP 4 leaves out the line of elements."""
    lines = text.split("\n")
    if re.match(r"\s*\d", "".join(lines[5:6])):
        if not types:
            raise InputError(f"has no line of elements; {TELL}.")
        lines.insert(5, " ".join(types.values()))
    return as_frames(read(io.StringIO("\n".join(lines)), ":", "vasp"))


def read_dump(text: str, types: Types) -> Frames:
    """Frames of a LAMMPS dump, with C for every type if nobody told LAMMPS the elements."""
    given = re.search("^ITEM: ATOMS .*element", text, re.MULTILINE) and not types
    for atoms in read(io.StringIO(text), ":", "lammps-dump-text"):
        atoms.calc = None  # its units are not known, and ASE makes up an energy
        labels = atoms.arrays.get("type", [])
        certain = given and ({*atoms.symbols} != {"C"} or len({*labels}) < 2)
        yield "", atoms.copy if certain else partial(set_elements, atoms, labels, types, {})


def read_lammps_data(text: str, types: Types) -> Frames:
    """Atoms in the order of their ids; `types`, labels or masses tell the elements."""
    if not types and "Atom Type Labels" in text:
        types = dict(re.findall(r"^\s*(\d+)\s+([A-Z][a-z]?)\s*$", text, re.MULTILINE))
    options = {"Z_of_type": {n: n for n in range(1, 119)}, "sort_by_id": False}
    atoms = read(io.StringIO(text), format="lammps-data", **options)
    atoms = atoms[atoms.arrays["id"].argsort()]  # whose numbers are types as yet
    masses = atoms.arrays.get("masses", np.zeros(len(atoms)))
    nearest = abs(atomic_masses - masses[:, None]).argmin(axis=1)
    certain = abs(atomic_masses[nearest] - masses) < np.maximum(0.004, 0.001 * masses)
    known = dict(zip(atoms.numbers[certain].astype(str), nearest[certain], strict=True))
    return as_frames([set_elements(atoms, atoms.numbers, types, known)])


READERS = {
    "cif": read_cif,
    "extxyz": read_xyz,
    "json": read_json,
    "lammps-data": read_lammps_data,
    "lammps-dump-text": read_dump,
    "proteindatabank": read_pdb,
    "vasp": read_poscar,
}
