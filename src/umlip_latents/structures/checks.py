"""Whether a structure makes physical sense and its neighbours can be listed."""

import numpy as np
from ase import Atoms
from ase.cell import Cell
from scipy.spatial import cKDTree

from ..resources import InputError

# what `check_structure` asks of a structure, in angstrom
MIN_DISTANCE = 0.1  # between two atoms
MIN_HEIGHT = 0.5  # of a cell along a periodic direction
MAX_LENGTH = 1000.0  # of a cell vector, or the extent where nothing is periodic
CUTOFF, MAX_NEIGHBOURS = 6.0, 1500  # of an atom on average


def cell_and_inverse(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
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

    Parameters
    ----------
    atoms
        The structure.
    where
        How the message names it, such as the file and the index.
    """
    if why := find_fault(atoms):
        raise InputError(f"{where}: {why}.")


def find_fault(atoms: Atoms) -> str:
    """Why a structure is refused by `check_structure`, nothing if it is not."""
    if len(atoms) == 0:
        return "has no atoms"
    if not np.isfinite([*atoms.positions, *atoms.cell.array]).all():
        return "has a position or cell that is not a finite number"
    odd = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > 118))
    if len(odd):
        z = atoms.numbers[odd[0]]
        return f"atom {odd[0]} is of unknown element, its atomic number is {z}"
    pbc = atoms.pbc
    with np.errstate(all="ignore"):  # numbers that are too large are refused below
        cell, inverse = cell_and_inverse(atoms)
        heights = 1 / np.linalg.norm(inverse, axis=0)
        scaled = atoms.positions @ inverse
        lengths = np.where(pbc, atoms.cell.lengths(), np.ptp(scaled, axis=0))
    if (lengths > MAX_LENGTH).any():
        return f"extends over {lengths.max():.3g} angstrom, more than {MAX_LENGTH:g}"
    thin = pbc & ~(np.minimum(heights, lengths) >= MIN_HEIGHT)  # parallel vectors have no height
    if thin.any():
        height = f"less than {MIN_HEIGHT:g} angstrom high along its periodic vector"
        return f"its cell is {height} {np.argmax(thin)}; reduce the cell"
    # In a rectangular box with the heights of the cell distances are never larger than those
    # between the atoms themselves.
    x = np.where(pbc, scaled - np.floor(scaled), scaled) * heights
    tree = cKDTree(np.where(pbc & (x >= heights), 0, x), boxsize=np.where(pbc, heights, 0))
    # images of the box, times the share of a cube that a sphere takes
    factor = (2 * CUTOFF / heights[pbc]).clip(1).prod() * np.pi / 6 * heights.prod()
    factor /= abs(np.linalg.det(cell)) * len(atoms)
    n = factor * tree.count_neighbors(tree, CUTOFF, p=np.inf)
    if n > MAX_NEIGHBOURS:
        many = f"{n:.3g} neighbours within {CUTOFF:g} angstrom"
        return f"an atom has about {many}, more than {MAX_NEIGHBOURS}"
    pairs = tree.query_pairs(MIN_DISTANCE, p=np.inf, output_type="ndarray")
    apart = np.subtract(*scaled[pairs.T])
    distances = np.linalg.norm((apart - np.where(pbc, np.rint(apart), 0)) @ cell, axis=1)
    if (distances < MIN_DISTANCE).any():
        (i, j), d = pairs[distances.argmin()], distances.min()
        return f"atoms {i} and {j} are {d:.2g} angstrom apart, less than {MIN_DISTANCE:g}"
    return ""
