"""Composition, physical properties, origin and fingerprints of structures."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.units import GPa

from ..resources import InputError
from .checks import check_structure


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


# of `physical_properties`
UNITS = {"energy": "eV/atom", "pressure": "GPa", "force": "eV/Å"}
UNITS |= {"volume": "Å³/atom", "distance": "Å"}
REACH = 6.0  # Å, within which a nearest neighbour is looked for
ORIGIN_KEYS = ("origin", "mptrj_traj_id", "name", "own")  # of `info`: the trajectory or material


def physical_properties(structures: Sequence[Atoms]) -> pd.DataFrame:
    r"""Labels and geometry of each structure, a column per quantity, NaN where it is not known.

    Parameters
    ----------
    structures
        Labelled or not.

    Returns
    -------
    pandas.DataFrame
        ``energy`` (eV/atom), ``pressure`` :math:`-\mathrm{tr}\,\sigma / 3` (GPa), ``force``, the
        mean norm of the forces (eV/Å), ``volume`` of a cell that is periodic in three directions
        (Å³/atom), and ``distance``, the mean one from an atom to its nearest neighbour
        (Å), 6 where it has none that near.

    Examples
    --------
    >>> from ase.build import bulk
    >>> physical_properties([bulk("Cu", a=3.6)]).dropna(axis=1).round(2).to_dict("records")
    [{'volume': 11.66, 'distance': 2.55}]
    """
    rows = []
    for atoms in structures:
        known = atoms.calc.results if atoms.calc else {}
        centre, distance = neighbor_list("id", atoms, REACH)
        nearest = pd.Series(distance).groupby(centre).min()
        row = {"distance": nearest.reindex(range(len(atoms)), fill_value=REACH).mean()}
        if "energy" in known:
            row["energy"] = known["energy"] / len(atoms)
        if "stress" in known:
            row["pressure"] = -atoms.get_stress()[:3].mean() / GPa
        if "forces" in known:
            row["force"] = np.linalg.norm(known["forces"], axis=1).mean()
        if atoms.pbc.all():
            row["volume"] = atoms.get_volume() / len(atoms)
        rows.append(row)
    return pd.DataFrame(rows, columns=[*UNITS], dtype=float)


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
