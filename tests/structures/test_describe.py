"""Physical properties, origins and fingerprints of structures."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.units import GPa

from umlip_latents import load_structures, structure_table
from umlip_latents.structures.describe import UNITS, group_by_origin


def test_labels_are_those_of_physics():
    copper = bulk("Cu", a=3.5, cubic=True)
    copper.positions[0] += 0.1
    copper.calc = EMT()
    copper.get_stress(), copper.get_forces()
    found = structure_table([copper]).iloc[0]
    ends = [copper.copy(), copper.copy()]
    for cell, strain in zip(ends, (-1e-4, 1e-4), strict=True):
        cell.set_cell(cell.cell * (1 + strain), scale_atoms=True)
        cell.calc = EMT()
    energies, volumes = [c.get_potential_energy() for c in ends], [c.get_volume() for c in ends]
    pressure = -np.diff(energies) / np.diff(volumes) / GPa
    assert found["pressure"] == pytest.approx(pressure[0], rel=1e-3)
    assert found["pressure"] > 0  # it is squeezed
    assert found["energy"] == pytest.approx(copper.get_potential_energy() / 4)
    assert found["force"] == pytest.approx(np.linalg.norm(copper.get_forces(), axis=1).mean())
    assert found["volume"] == pytest.approx(3.5**3 / 4)
    water = structure_table([molecule("H2O")])[[*UNITS]].iloc[0]
    assert water.drop("distance").isna().all()
    assert water["distance"] == pytest.approx(0.968, abs=0.01)


def test_versions_of_one_material_go_together():
    frames = [Atoms("H", info={"mptrj_traj_id": name}) for name in ("mp-1", "mp-2", "mp-1")]
    assert [*group_by_origin([*frames, Atoms("H")])] == ["mp-1", "mp-2", "mp-1", "structure 3"]
    origins = group_by_origin(load_structures("li3ps4-gfn1"))
    assert len(set(origins)) == 30
