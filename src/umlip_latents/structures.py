"""Structures: named data sets or any file that ASE reads, as plain lists of `ase.Atoms`."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.io import read
from scipy.spatial import cKDTree

from .resources import DATA, InputError, fetch, registry, unknown, verified

# what `check_structure` asks of a structure, in angstrom
CLOSEST = 0.1  # distance of two atoms
THINNEST = 0.5  # height of a cell along a periodic direction
LONGEST = 1000.0  # cell vector, or extent where nothing is periodic
NEAR, MOST = 6.0, 1500  # so many neighbours on average within such a distance


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
            raise unknown(str(source), "file or data set", known)
    elif "path" in entry:
        path = verified(DATA / entry["path"], entry["sha256"])
    else:
        if not entry.get("sha256"):
            words = f"download it from {entry['landing_page']} and pass the file's path"
            raise InputError(f"{source}: no verified SHA-256 is registered; {words}.")
        path = fetch(entry["file"], entry["url"], entry["sha256"])
    if path.suffix.endswith("xyz") and re.search(rb"^\s*\d{9,}\s*$", path.read_bytes(), re.M):
        raise InputError(f"{path}: says that it holds more atoms than any file does.")
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


def spanned(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """The periodic cell vectors with unit vectors across for the other directions, and the inverse.

    ``positions @ inverse`` are numbers of cells along periodic directions, else angstrom. Not
    finite where the periodic vectors are parallel.
    """
    with np.errstate(all="ignore"):
        cell = Cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0)).complete().array
        normals = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
        return cell, normals.T / (cell[0] @ normals[0])


def check_structure(atoms: Atoms, where: str) -> None:
    """Raise `InputError` unless `atoms` makes physical sense and its neighbours can be listed.

    Refused are positions and cells that are not finite, unknown elements, a cell thinner than 0.5
    angstrom along a periodic direction, anything longer than 1000 angstrom, more than 1500
    neighbours within 6 angstrom of an atom on average, estimated before any is listed, and two
    atoms, periodic images among them, less than 0.1 angstrom apart.
    """
    if len(atoms) == 0:
        raise InputError(f"{where}: has no atoms.")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise InputError(f"{where}: has a position or cell that is not a finite number.")
    odd = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > 118))
    if len(odd):
        z = atoms.numbers[odd[0]]
        raise InputError(f"{where}: atom {odd[0]} is of unknown element, its atomic number is {z}.")
    pbc = atoms.pbc
    with np.errstate(all="ignore"):  # numbers that are too large are refused below
        cell, inverse = spanned(atoms)
        heights = 1 / np.linalg.norm(inverse, axis=0)
        along = atoms.positions @ inverse
        lengths = np.where(pbc, atoms.cell.lengths(), np.ptp(along, axis=0))
    if (lengths > LONGEST).any():
        words = f"extends over {lengths.max():.3g} angstrom, more than {LONGEST:g}"
        raise InputError(f"{where}: {words}, too much for a list of neighbours.")
    thin = pbc & ~(np.minimum(heights, lengths) >= THINNEST)  # parallel vectors have no height
    if thin.any():
        words = f"is less than {THINNEST:g} angstrom high along its periodic vector"
        raise InputError(f"{where}: its cell {words} {np.argmax(thin)}; reduce the cell.")
    x = np.where(pbc, along - np.floor(along), along) * heights
    # a box of these heights: distances in it are never larger than between the atoms themselves
    tree = cKDTree(np.where(pbc & (x >= heights), 0, x), boxsize=np.where(pbc, heights, 0))
    near = (2 * NEAR / heights[pbc]).clip(1).prod() * np.pi / 6 * heights.prod()
    near /= abs(np.linalg.det(cell)) * len(atoms)  # images, and the share of a sphere in the box
    if near * len(atoms) ** 2 > MOST:
        n = near * tree.count_neighbors(tree, NEAR, p=np.inf)
        if n > MOST:
            words = f"about {n:.3g} neighbours within {NEAR:g} angstrom, more than {MOST}"
            raise InputError(f"{where}: an atom has {words}.")
    pairs = tree.query_pairs(CLOSEST, p=np.inf, output_type="ndarray")
    apart = np.subtract(*along[pairs.T])
    distances = np.linalg.norm((apart - np.where(pbc, np.rint(apart), 0)) @ cell, axis=1)
    if (distances < CLOSEST).any():
        (i, j), d = pairs[distances.argmin()], distances.min()
        words = f"atoms {i} and {j} are {d:.2g} angstrom apart, less than {CLOSEST:g}"
        raise InputError(f"{where}: {words}.")


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
        check_structure(atoms, f"{part} structure {index}")
        results = atoms.calc.results if atoms.calc else {}
        if not {"energy", "forces"} <= set(results):
            raise InputError(f"{part} structure {index}: has no energy and forces.")
        for key in ("energy", "forces", "stress"):
            digest.update(np.asarray(results.get(key, np.nan), dtype="<f8").tobytes())
    return digest.hexdigest()
