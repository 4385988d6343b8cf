"""Structures: named data sets or any file that ASE reads, as plain lists of `ase.Atoms`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from .resources import DATA, InputError, fetch, registry, unknown, verified


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
        if not path.is_file():
            raise unknown(str(source), "file or data set", known)
    elif "path" in entry:
        path = verified(DATA / entry["path"], entry["sha256"])
    else:
        if not entry.get("sha256"):
            words = f"download it from {entry['landing_page']} and pass the file's path"
            raise InputError(f"{source}: no verified SHA-256 is registered; {words}.")
        path = fetch(entry["file"], entry["url"], entry["sha256"])
    try:
        structures = read(path, index=":")
    except Exception as error:  # ASE raises whatever its many parsers raise
        raise InputError(f"{path}: ASE cannot read it ({type(error).__name__}: {error}).") from None
    if not structures:
        raise InputError(f"{path}: holds no structure.")
    for index, atoms in enumerate(structures):
        check_structure(atoms, f"{path}, structure {index}")
    return structures


def composition(structures: Sequence[Atoms]) -> np.ndarray:
    """(n_structures, 119) share of each atomic number among the atoms of a structure.

    Examples
    --------
    >>> composition([Atoms("H2O")])[0, [1, 8]].round(2).tolist()
    [0.67, 0.33]
    """
    return np.array([np.bincount(a.numbers, minlength=119) / len(a) for a in structures])


def check_structure(atoms: Atoms, where: str) -> None:
    """Raise `InputError` unless `atoms` is physically meaningful."""
    if len(atoms) == 0:
        raise InputError(f"{where}: has no atoms.")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise InputError(f"{where}: has a position or cell that is not a finite number.")
    if (atoms.numbers < 1).any():
        raise InputError(f"{where}: has an atom of unknown element.")
    if (atoms.pbc & (atoms.cell.lengths() == 0)).any():
        raise InputError(f"{where}: is periodic along a cell vector of length zero.")
    if atoms.pbc.all() and atoms.cell.volume < 1e-3:
        raise InputError(f"{where}: has a periodic cell without volume.")


def fingerprint(structures: Sequence[Atoms]) -> str:
    """SHA-256 over numbers, positions, cells and boundary conditions."""
    digest = hashlib.sha256()
    for a in structures:
        digest.update(a.numbers.astype("<i8").tobytes())
        digest.update(np.concatenate([a.positions, a.cell.array]).astype("<f8").tobytes())
        digest.update(a.pbc.astype("u1").tobytes())
    return digest.hexdigest()


def labels_fingerprint(structures: Sequence[Atoms], part: str) -> str:
    """SHA-256 over structures and labels; refuses structures without labels."""
    digest = hashlib.sha256(fingerprint(structures).encode())
    for index, atoms in enumerate(structures):
        results = atoms.calc.results if atoms.calc else {}
        if not {"energy", "forces"} <= set(results):
            raise InputError(f"{part} structure {index}: has no energy and forces.")
        for key in ("energy", "forces", "stress"):
            digest.update(np.asarray(results.get(key, np.nan), dtype="<f8").tobytes())
    return digest.hexdigest()
