"""SevenNet, in its own environment; and seen from outside, where that is made."""

import os

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from umlip_latents import extract_features, load_model
from umlip_latents.environments import CURRENT, list_environments
from umlip_latents.models.remote import RemoteModel

from . import checks

inside = pytest.mark.skipif(
    os.getenv(CURRENT) != "sevennet", reason="runs in the environment sevennet (tests/zoo.py)"
)
outside = pytest.mark.skipif(
    CURRENT in os.environ or list_environments()["sevennet"] != "ready",
    reason="needs the environment sevennet (umlip-latents environments --make sevennet)",
)


@inside
def test_a_slab_may_stand_on_its_edge(models):
    """Its own code replaces the cell vector of the vacuum as if the slab were flat."""
    flat = fcc111("Al", (2, 2, 2), vacuum=8)
    standing = flat.copy()
    standing.rotate(90, "x", rotate_cell=True)
    checks.check_same(models["7net-0"], [standing], [flat])


@inside
def test_the_modalities_share_weights_but_not_features(models):
    one, other = models["7net-mf-0-PBE"], models["7net-mf-0-R2SCAN"]
    assert one.fingerprint != other.fingerprint
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    first, second = (m.features([m.prepare(atoms)]) for m in (one, other))
    for layer in ("backbone", "last"):
        assert checks.deviation(first[layer], second[layer]) > 1e-3


@inside
def test_an_isolated_atom_has_the_energy_of_the_library(models):
    from sevenn.calculator import SevenNetCalculator

    from .test_adapters import sevennet_energies

    atoms = Atoms("H", cell=[20] * 3, pbc=True)
    mine, theirs = sevennet_energies(models["7net-0"], [atoms])
    assert mine == pytest.approx(theirs, abs=1e-5)
    calculator = SevenNetCalculator("7net-0", device="cpu")
    assert calculator.get_potential_energy(atoms) == pytest.approx(-0.9187, abs=1e-3)


@outside
def test_features_come_back_and_the_refused_are_named(tmp_path):
    model = load_model("7net-0")
    assert isinstance(model, RemoteModel)
    structures = [bulk("Cu"), Atoms("PoH", [(0, 0, 0), (0, 0, 1.8)]), bulk("NaCl", "rocksalt", 5.6)]
    for layer, width in (("last", 64), ("interaction-2", 128)):
        found = extract_features(structures, model, layer, store=tmp_path, progress=False)
        assert found.features.shape == (3, width)
        assert np.isfinite(found.features).all()
        assert list(found.kept) == [0, 2]
        assert found.dropped == {1: "7net-0 does not know the element(s) Po"}
