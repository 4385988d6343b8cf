"""Physical properties, origins and fingerprints of structures."""

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from umlip_latents import load_structures, structure_table
from umlip_latents.structures.describe import UNITS, group_by_origin


def test_properties_have_the_units_and_signs_of_physics():
    copper = bulk("Cu", a=3.5, cubic=True)
    labels = {"energy": -8.0, "forces": [[3, 4, 0]] * 4, "stress": [-0.1, -0.2, -0.3, 9, 9, 9]}
    copper.calc = SinglePointCalculator(copper, **labels)
    found = structure_table([copper]).iloc[0][[*UNITS]].to_dict()
    pressure = 0.2 * 160.2177  # it is squeezed
    expected = {"energy": -2, "pressure": pressure, "force": 5, "volume": 3.5**3 / 4}
    assert found == pytest.approx(expected | {"distance": 3.5 / 2**0.5})
    water = structure_table([molecule("H2O")])[[*UNITS]].iloc[0]
    assert water.drop("distance").isna().all()
    assert water["distance"] == pytest.approx(0.968, abs=0.01)


def test_versions_of_one_material_go_together():
    frames = [Atoms("H", info={"mptrj_traj_id": name}) for name in ("mp-1", "mp-2", "mp-1")]
    assert [*group_by_origin([*frames, Atoms("H")])] == ["mp-1", "mp-2", "mp-1", "structure 3"]
    origins = group_by_origin(load_structures("li3ps4-gfn1"))
    assert len(set(origins)) == 30
