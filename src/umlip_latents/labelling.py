"""Structures made on the spot and labelled by a method that runs on any computer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk
from tqdm.auto import tqdm

from .resources import InputError

CRYSTALS = {
    "Li2S": ("SLi2", "fluorite", 5.72),
    "Na2O": ("ONa2", "fluorite", 5.55),
    "LiF": ("LiF", "rocksalt", 4.03),
    "MgO": ("MgO", "rocksalt", 4.21),
}


def rattled_crystal(formula: str, count: int, *, seed: int = 0) -> list[Atoms]:
    """Conventional cells of a crystal under random strain (3 %) and displacements (0.1 angstrom).

    Parameters
    ----------
    formula
        One of `CRYSTALS`, at its experimental lattice constant.
    count
        Number of structures.
    seed
        Of the random numbers.
    """
    if formula not in CRYSTALS:
        raise InputError(f"{formula}: no such crystal, only {', '.join(CRYSTALS)}.")
    name, kind, a = CRYSTALS[formula]
    ideal = bulk(name, kind, a=a, cubic=True)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = ideal.copy()
        strain = rng.normal(0, 0.03, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        found.append(atoms)
    return found


def label_with_gfn1_xtb(structures: Sequence[Atoms]) -> list[Atoms]:
    """Copies with energy, forces and stress by periodic GFN1-xTB (tblite), in eV and angstrom.

    Raises
    ------
    InputError
        The self-consistent cycle of a structure fails; the message names its index.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from tblite.ase import TBLite

    done = []
    for index, atoms in enumerate(tqdm(structures, desc="GFN1-xTB", unit="structure")):
        copied = atoms.copy()
        copied.calc = TBLite(method="GFN1-xTB", verbosity=0)
        try:
            results = {
                "energy": copied.get_potential_energy(),
                "forces": copied.get_forces(),
                "stress": copied.get_stress(),
            }
        except Exception as error:  # tblite raises several kinds
            raise InputError(f"structure {index}: GFN1-xTB failed ({error}).") from error
        copied.calc = SinglePointCalculator(copied, **results)
        done.append(copied)
    return done
