"""Structures: named data sets or any file that ASE reads, as plain lists of `ase.Atoms`."""

import os
from pathlib import Path

from ase import Atoms
from ase.io import read

from ..resources import DATA, InputError, check_sha256, fetch, registry, unknown_name, wrap_os_error
from .checks import check_structure


def list_datasets() -> dict[str, dict]:
    """The registered data sets by name: description, files, licence, citation.

    Examples
    --------
    >>> list_datasets()["embedded"]["structures"]
    948
    """
    return registry("datasets")


def load_structures(source: str | Path) -> list[Atoms]:
    """Load a registered data set by name, or any structure file that ASE reads.

    Parameters
    ----------
    source
        A name of `list_datasets`, or the path of an extended XYZ, CIF, POSCAR, ASE database,
        trajectory or other file known to ASE.

    Returns
    -------
    list of ase.Atoms
        In the order of the file. ``info["subset"]`` names the kind of structure where known.

    Raises
    ------
    InputError
        The name is unknown, the file missing, empty, unreadable, or a structure in it unusable.

    Examples
    --------
    >>> structures = load_structures("embedded")
    >>> len(structures), structures[0].info["subset"]
    (948, 'bulk')
    """
    known, path = list_datasets(), Path(source)
    entry = known.get(str(source))
    if entry is None:
        if not os.path.isfile(path):
            raise unknown_name(str(source), "file or data set", known)
    elif "path" in entry:
        path = check_sha256(DATA / entry["path"], entry["sha256"])
    else:
        if not entry.get("sha256"):
            words = f"download it from {entry['landing_page']} and pass the file's path"
            raise InputError(f"{source}: no verified SHA-256 is registered; {words}.")
        path = fetch(entry["file"], entry["url"], entry["sha256"])
    if path.suffix.endswith("xyz"):
        check_atom_counts(path)
    try:
        structures = read(path, index=":")
    except Exception as error:  # ASE raises whatever its many parsers raise
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: ASE cannot read it ({why}).") from None
    if not structures:
        raise InputError(f"{path}: holds no structure.")
    for index, atoms in enumerate(structures):
        check_structure(atoms, f"{path}, structure {index}")
    return structures[:: entry.get("every", 1)] if entry else structures


def check_atom_counts(path: Path) -> None:
    """Refuse an XYZ file that announces more atoms than it holds: ASE would read on for hours.

    Raises
    ------
    InputError
        Names the file, the frame and both numbers.
    """
    frame = 0
    with wrap_os_error(path, "cannot be read"), path.open(encoding="latin-1") as lines:
        for line in lines:
            if line.lstrip().startswith("VEC"):  # cell vectors may follow the atoms
                continue
            try:
                n_atoms = int(line)
            except ValueError:  # the end, or no XYZ at all: ASE will tell
                return
            n_lines = -1  # the first one is a comment
            while n_lines < n_atoms and next(lines, None) is not None:
                n_lines += 1
            if n_lines < n_atoms:
                rest = f"announces {n_atoms} atoms, but {max(n_lines, 0)} lines follow"
                raise InputError(f"{path}, structure {frame}: {rest}.")
            frame += 1
