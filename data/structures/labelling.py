"""Labels by a method that runs on any computer."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from tqdm.auto import tqdm

from umlip_latents.resources import InputError


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
