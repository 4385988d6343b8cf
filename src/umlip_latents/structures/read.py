"""Structures: named data sets or any files that ASE reads, as plain lists of `ase.Atoms`."""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape, glob
from pathlib import Path
from unittest import mock

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.io.formats import string2index

from ..resources import InputError, fetch, registry, unknown_name
from .checks import check_structure
from .formats import HYDROGENS, ORDERED, find_format, list_frames, read_types

SHAPES = {"energy": (), "forces": (-1, 3), "force": (-1, 3), "stress": (-1,)}  # of labels
# what the models take for granted
NEUTRAL = {"charge": ("0", "0.0"), "total_charge": ("0", "0.0"), "spin": ("0", "1")}


def list_datasets() -> dict[str, dict]:
    """The registered data sets by name: description, files, licence, citation.

    Examples
    --------
    >>> list_datasets()["embedded"]["structures"]
    948
    """
    return registry("datasets")


def load_structures(
    source: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    types: str | Sequence[str] | Mapping[str, str] | None = None,
    energy_key: str | None = None,
    skip_bad: bool = False,
) -> list[Atoms]:
    """Load a registered data set by name, or any structure files that ASE or pymatgen read.

    Nothing uncertain is guessed: a file that does not tell its elements, or a site that is
    occupied in part, is refused. Frames without atoms are left out. A line on stderr says so, and
    names labels that are called otherwise, and charges and spins, which no model here takes.

    Parameters
    ----------
    source
        A name of `list_datasets`; a file known to ASE, such as extended XYZ, CIF, POSCAR, a
        trajectory or a LAMMPS dump; JSON of pymatgen or OPTIMADE; a folder of such files; a
        pattern such as ``"cifs/*.cif"``; or several of these. Behind ``@`` may stand the frames
        that are taken of each file, as in ``"run.traj@:100"`` or ``"run.traj@0"``.
    format
        ASE's name of the format, where the name and content of a file do not tell it.
    types
        Elements that a file does not tell: of LAMMPS's types 1, 2 and so on, or in the order of a
        POSCAR without symbols, ``["Na", "Cl"]`` or ``"Na,Cl"``; of labels, ``{"OW": "O"}`` or
        ``"OW=O"``.
    energy_key
        What the file calls the energy (eV), such as ``"REF_energy"``. Its forces (eV/Å) and stress
        (eV/Å³) are called the same with ``forces``, ``force`` or ``stress`` in place of ``energy``.
        Where there are forces alone, their name will do.
    skip_bad
        Leave out frames and files that cannot be used, and name them on stderr.

    Returns
    -------
    list of ase.Atoms
        In the order of the files. ``info["subset"]`` names the kind of structure where known;
        energy, forces and stress are results of ``calc`` where known.

    Raises
    ------
    InputError
        The name is unknown, a file missing, empty or unreadable, or a structure in it unusable:
        the file, the structure, counted from 0, and the cause are named.

    Examples
    --------
    >>> structures = load_structures("embedded@:100")
    >>> len(structures), structures[0].info["subset"]
    (100, 'bulk')
    """
    sources = [source] if isinstance(source, str | Path) else source
    files = [file for text in sources for file in find_files(str(text), format)]
    structures, known = [], read_types(types or ())
    for path, every, wanted in files:
        frames = []
        with guard(path, skip_bad):
            frames = [*enumerate(list_frames(path, format, known))][::every][wanted]
        if not frames and len(files) > 1:
            print(f"{path}: holds no structure.", file=sys.stderr)
        for number, (line, parse) in frames:
            where = f"{path}{line}, structure {number}"
            with guard(where, skip_bad):
                atoms = parse()
                if not len(atoms):
                    print(f"{where}: has no atoms and is left out.", file=sys.stderr)
                    continue
                check_structure(atoms, where)
                check_occupancy(atoms)
                if energy_key:
                    set_labels(atoms, energy_key)
                structures.append(atoms)
    names = ", ".join(map(str, sources))
    if not structures:
        raise InputError(f"{names}: holds no structure.")
    report_unused(structures, names)
    return structures


@contextmanager
def guard(where: str | Path, skip_bad: bool) -> Iterator[None]:
    """Turn whatever the many parsers of ASE raise into a sentence that names the place.

    They take D and T for hydrogen meanwhile, and raise where they would leave out a line.
    """
    try:
        with mock.patch.dict(atomic_numbers, HYDROGENS), warnings.catch_warnings():
            warnings.filterwarnings("error", "Wrong number .* of tokens")
            yield
    except Exception as error:
        why = " ".join(str(error).split()).removeprefix(f"{where}: ")
        if not isinstance(error, InputError):
            why = f"ASE cannot read it ({type(error).__name__}: {why})."
        if not skip_bad:
            raise InputError(f"{where}: {why}") from None
        print(f"left out: {where}: {why}", file=sys.stderr)


def find_files(source: str, format: str | None) -> list[tuple[Path, int, slice]]:
    """The files of a source, and of each the step and the slice of the frames to take."""
    text, every, wanted, known = source, 1, slice(None), list_datasets()
    if "@" in source and not os.path.exists(source):
        text, _, frames = source.rpartition("@")
        index = string2index(frames)
        if isinstance(index, str):
            raise InputError(f"{source}: {index} is no slice of frames.")
        wanted = index if isinstance(index, slice) else slice(index, index + 1 or None)
    if text in known:
        entry = known[text]
        if not entry.get("sha256"):
            words = f"download it from {entry['landing_page']} and pass the file's path"
            raise InputError(f"{text}: no verified SHA-256 is registered; {words}.")
        path = fetch(entry.get("path") or entry["file"], entry.get("url", ""), entry["sha256"])
        files, every = [path], entry.get("every", 1)
    elif os.path.isfile(text):
        files = [Path(text)]
    else:
        names = glob(f"{escape(text)}/*" if os.path.isdir(text) else text, recursive=True)
        found = [Path(name) for name in sorted(names) if os.path.isfile(name)]
        files = [path for path in found if format or find_format(path)]
        for path in {*found} - {*files}:
            print(f"{path}: left out, no structure file.", file=sys.stderr)
        if not files:
            raise unknown_name(text, "file or data set", known)
    return [(file, every, wanted) for file in files]


def check_occupancy(atoms: Atoms) -> None:
    """Refuse sites that are occupied in part, of which ASE makes atoms of one element."""
    sites = atoms.info.pop("occupancy", None)
    shares = [*map(dict.values, sites.values())] if isinstance(sites, dict) else []
    shares += [share[share != 0] for name, share in atoms.arrays.items() if "occupanc" in name]
    if odd := {share for part in shares for share in part} - {1, "."}:  # a dot is 1
        raise InputError(f"it has a site occupied by {min(map(str, odd))}; {ORDERED}.")


def set_labels(atoms: Atoms, energy_key: str) -> None:
    """Make energy, forces and stress of other names results of the calculator."""
    old = atoms.calc.results if atoms.calc else {}
    known = {str(k).lower(): value for k, value in {**atoms.info, **atoms.arrays, **old}.items()}
    if energy_key.lower() not in known:
        raise InputError(f"has no {energy_key} ({', '.join(known)}).")
    results = {} if "energy" in old else {**old}  # what belongs to another energy is left
    for kind, shape in SHAPES.items():
        name = re.sub("energy|forces?|stress", kind, energy_key.lower())
        if name in known:
            value = np.reshape(known.pop(name), shape).astype(float)[()]
            if kind == "stress" and value.size not in (6, 9):
                raise InputError(f"its {name} has {value.size} numbers, not 6 or 9.")
            value = value[[0, 4, 8, 5, 2, 1]] if np.shape(value) == (9,) else value
            results["forces" if kind == "force" else kind] = value
    atoms.calc = SinglePointCalculator(atoms, **results)


def report_unused(structures: Sequence[Atoms], source: str) -> None:
    """Say which labels and charges of the files are not used."""
    names = {str(name) for atoms in structures for name in [*atoms.info, *atoms.arrays]}
    results = [atoms.calc.results if atoms.calc else {} for atoms in structures]
    lacking = [k for k in ("energy", "forces", "stress") if not all(k in r for r in results)]
    if labels := [n for n in names if any(k.removesuffix("s") in n.lower() for k in lacking)]:
        words = f"{', '.join(sorted(labels))} not used; energy_key= (--energy-key) tells the name"
        print(f"{source}: {words}.", file=sys.stderr)
    for name, usual in NEUTRAL.items():
        if any(str(atoms.info.get(name, 0)) not in usual for atoms in structures):
            print(f"{source}: {name} is ignored; the models know none.", file=sys.stderr)
