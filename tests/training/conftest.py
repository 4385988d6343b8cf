"""Labelled crystals that are small enough to train on in a second."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


def with_labels(atoms: Atoms, **labels) -> Atoms:
    """A copy that has these energies, forces and stresses."""
    copied = atoms.copy()
    copied.calc = SinglePointCalculator(copied, **labels)
    return copied


@pytest.fixture(scope="session")
def metals():
    """Eight distorted cells of four atoms, Cu and Al in turn, two of each origin, by EMT."""
    rng, labelled = np.random.default_rng(0), []
    for i in range(8):
        atoms = bulk("Cu", "fcc", 3.6, cubic=True) if i % 2 else bulk("Al", "fcc", 4.05, cubic=True)
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        labels["stress"] = atoms.get_stress()
        atoms.info["origin"] = f"run {i // 2}"
        labelled.append(with_labels(atoms, **labels))
    return labelled
