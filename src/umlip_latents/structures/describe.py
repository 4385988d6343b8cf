"""What is known of structures and atoms: composition, fingerprints, origin, and tables of them.

The tables of a data set whose features ship are there without its structures.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.units import GPa

from ..resources import DATA, InputError
from .checks import check_structure
from .read import load_structures

ORIGIN_KEYS = ("origin", "mptrj_traj_id", "name", "own")  # of `info`: the trajectory or material
REACH = 6.0  # Å, within which a nearest neighbour is looked for
BOND = 1.2  # times the sum of the covalent radii: within it, neighbours count
# of the physical properties of a structure
UNITS = {"energy": "eV/atom", "pressure": "GPa", "force": "eV/Å"}
UNITS |= {"volume": "Å³/atom", "distance": "Å"}


def composition(structures: Sequence[Atoms]) -> np.ndarray:
    """(n_structures, 119) share of each atomic number among the atoms of a structure.

    Examples
    --------
    >>> composition([Atoms("H2O")])[0, [1, 8]].round(2).tolist()
    [0.67, 0.33]
    """
    return np.array([np.bincount(a.numbers, minlength=119) / len(a) for a in structures])


def fingerprint(structures: Sequence[Atoms]) -> str:
    """SHA-256 over numbers, positions, cells and boundary conditions.

    Examples
    --------
    >>> fingerprint([Atoms("H")]) == fingerprint([Atoms("H", info={"name": "hydrogen"})])
    True
    """
    digest = hashlib.sha256()
    for a in structures:
        digest.update(a.numbers.astype("<i8").tobytes())
        digest.update(np.concatenate([a.positions, a.cell.array]).astype("<f8").tobytes())
        digest.update(a.pbc.astype("u1").tobytes())
    return digest.hexdigest()


def labels_fingerprint(structures: Sequence[Atoms], part: str) -> str:
    """SHA-256 over structures, energies (eV), forces (eV/Å) and stresses (eV/Å³), where known.

    Parameters
    ----------
    structures
        With energies and forces.
    part
        What they are, such as ``training``, for errors.

    Raises
    ------
    InputError
        A structure makes no sense, lacks energy or forces, or has a label that is not finite.

    Examples
    --------
    >>> labels_fingerprint([Atoms("H")], "test")
    Traceback (most recent call last):
    ...
    umlip_latents.resources.InputError: test structure 0: has no energy and forces.
    """
    digest = hashlib.sha256(fingerprint(structures).encode())
    for index, atoms in enumerate(structures):
        where, known = f"{part} structure {index}", atoms.calc.results if atoms.calc else {}
        check_structure(atoms, where)
        if not {"energy", "forces"} <= {*known}:
            raise InputError(f"{where}: has no energy and forces.")
        for key in ("energy", "forces", "stress"):
            value = np.asarray(known.get(key, np.nan), dtype="<f8")
            if key in known and not np.isfinite(value).all():
                raise InputError(f"{where}: its {key} is not finite.")
            digest.update(value.tobytes())
    return digest.hexdigest()


def group_by_origin(structures: Sequence[Atoms]) -> np.ndarray:
    """(n_structures,) labels of the trajectory or material that each structure is a version of.

    Structures of one label resemble each other and must not be parted by a split. The label is
    what ``info`` names as ``origin``, ``mptrj_traj_id`` or ``name``, in this order; a structure
    without any has a label of its own.

    Examples
    --------
    >>> group_by_origin([Atoms("H", info={"origin": "run 1"}), Atoms("H")]).tolist()
    ['run 1', 'structure 1']
    """
    infos = [{"own": f"structure {i}"} | atoms.info for i, atoms in enumerate(structures)]
    return np.array([str(next(info[key] for key in ORIGIN_KEYS if key in info)) for info in infos])


def structure_table(dataset: str | Path | Sequence[Atoms]) -> pd.DataFrame:
    r"""Each structure's formula, size, kind, origin and physical properties.

    Parameters
    ----------
    dataset
        A registered data set (`list_datasets`), a file, or structures. Of those whose features
        ship, the table ships too.

    Returns
    -------
    pandas.DataFrame
        By index in the data set: ``formula``, ``elements`` (a string such as ``Cl-Na``),
        ``n_atoms``, ``subset`` (the kind, where known), ``origin`` (`group_by_origin`), and, NaN
        where it is not known, ``energy`` (eV/atom), ``pressure``
        :math:`-\mathrm{tr}\,\sigma / 3` (GPa), ``force``, the mean norm of the forces (eV/Å),
        ``volume`` of a cell that is periodic in three directions (Å³/atom), and ``distance``, the
        mean one from an atom to its nearest neighbour (Å), 6 where it has none that near.

    Examples
    --------
    >>> structure_table("embedded-third")["formula"].iloc[:3].tolist()
    ['B12U', 'C16B16Mg8', 'Bi2Te3']
    """
    shipped = DATA / "features" / str(dataset) / "structures.csv"
    if isinstance(dataset, str) and shipped.is_file():
        return pd.read_csv(shipped, index_col="structure", keep_default_na=False, na_values=[""])
    structures = load_structures(dataset) if isinstance(dataset, str | Path) else dataset
    distances = atom_table(structures).groupby("structure")["distance"].mean()
    rows = []
    for atoms, origin in zip(structures, group_by_origin(structures), strict=True):
        known = atoms.calc.results if atoms.calc else {}
        stress = atoms.get_stress()[:3] if "stress" in known else np.nan
        about = {
            "formula": atoms.get_chemical_formula(),
            "elements": "-".join(sorted({*atoms.symbols})),
            "n_atoms": len(atoms),
            "subset": atoms.info.get("subset"),
            "origin": origin,
            "energy": known.get("energy", np.nan) / len(atoms),
            "pressure": -np.mean(stress) / GPa,
            "force": np.mean(np.linalg.norm(known.get("forces", [[np.nan]]), axis=1)),
            "volume": atoms.get_volume() / len(atoms) if atoms.pbc.all() else np.nan,
        }
        rows.append(about)
    return pd.DataFrame(rows).assign(distance=distances).rename_axis("structure")


def atom_table(dataset: str | Path | Sequence[Atoms]) -> pd.DataFrame:
    """Each atom's structure, element and surroundings.

    Parameters
    ----------
    dataset
        As in `structure_table`.

    Returns
    -------
    pandas.DataFrame
        A row per atom, in the order of the features of a model that accepts every structure:
        ``structure``, ``element``, ``coordination`` (neighbours nearer than 1.2 times the sum of
        the covalent radii) and ``distance`` to the nearest neighbour (Å), 6 where none is nearer.

    Examples
    --------
    >>> from ase.build import bulk
    >>> atom_table([bulk("Cu", a=3.6)]).round(2).to_dict("records")
    [{'structure': 0, 'element': 'Cu', 'coordination': 12, 'distance': 2.55}]
    """
    shipped = DATA / "features" / str(dataset) / "atoms.csv.gz"
    if isinstance(dataset, str) and shipped.is_file():
        return pd.read_csv(shipped, keep_default_na=False)
    structures = load_structures(dataset) if isinstance(dataset, str | Path) else dataset
    tables = []
    for index, atoms in enumerate(structures):
        bonded = neighbor_list("i", atoms, natural_cutoffs(atoms, mult=BOND))
        coordination = np.bincount(bonded, minlength=len(atoms))
        nearest, (centre, distance) = np.full(len(atoms), REACH), neighbor_list("id", atoms, REACH)
        np.minimum.at(nearest, centre, distance)
        columns = {"element": [*atoms.symbols], "coordination": coordination, "distance": nearest}
        tables.append(pd.DataFrame({"structure": index} | columns))
    return pd.concat(tables, ignore_index=True)
