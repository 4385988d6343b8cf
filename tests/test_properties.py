"""Element share, effective dimension, retention, maps."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from umlip_latents import Features, compare
from umlip_latents.properties import (
    effective_dimension,
    element_share,
    pcovr_map,
    pretraining_retention,
    rotated,
    structure_property,
    varying,
)
from umlip_latents.resources import InputError


def test_element_share_in_its_limits():
    numbers = np.repeat([1, 6, 8], 50)
    rng = np.random.default_rng(0)
    means = rng.normal(size=(120, 4))
    assert element_share(means[numbers], numbers) == pytest.approx(1)
    assert element_share(rng.normal(size=(150, 4)), numbers) < 0.1
    mixed = means[numbers] + rng.normal(size=(150, 4))
    between = ((means[[1, 6, 8]] - means[[1, 6, 8]].mean(axis=0)) ** 2).sum() / 3
    assert element_share(mixed, numbers) == pytest.approx(between / (between + 4), abs=0.1)


def test_effective_dimension_counts_directions():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 20)) + 7
    assert effective_dimension(x, 0.999999) == 3
    assert effective_dimension(np.outer(rng.normal(size=50), np.ones(5)), 0.99) == 1


def test_features_that_do_not_vary_where_all_have_them_are_left_out():
    def model(values, kept):
        x = np.array(values, dtype=float)[:, None]
        return Features(x, np.ones(len(x), int), np.array([1, 1, 8])[kept], np.array(kept))

    everywhere = {"element": model([0, 0, 1], [0, 1, 2]), "own": model([3, 4, 5], [0, 1, 2])}
    assert list(varying(everywhere)) == ["element", "own"]
    assert list(varying(everywhere, within_element=True)) == ["own"]
    hydrogen_alone = everywhere | {"narrow": model([6, 7], [0, 1])}
    assert list(varying(hydrogen_alone)) == ["own", "narrow"]


def test_rotation_keeps_distances(crystals):
    turned = rotated(crystals[0], np.random.default_rng(2))
    one = crystals[0].get_all_distances(mic=True)
    assert turned.get_all_distances(mic=True) == pytest.approx(one, abs=1e-10)
    assert turned.cell.volume == pytest.approx(crystals[0].cell.volume)
    assert np.abs(turned.positions - crystals[0].positions).max() > 0.5


def test_pcovr_goes_from_pca_to_regression():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 6))
    y = x @ rng.normal(size=6)
    towards_y = pcovr_map(x, y, mixing=0.01)
    fit = np.linalg.lstsq(towards_y, y - y.mean(), rcond=None)[0]
    assert np.corrcoef(towards_y @ fit, y)[0, 1] > 0.999
    pca = pcovr_map(x, y, mixing=1.0)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    u, s, _ = np.linalg.svd(standard, full_matrices=False)
    for k in range(2):
        assert abs(np.corrcoef(pca[:, k], u[:, k] * s[k])[0, 1]) == pytest.approx(1, abs=1e-6)


def test_a_map_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least two features"):
        pcovr_map(np.ones((10, 4)), np.arange(10))


def test_retention_of_known_features():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(900, 4))
    new = {name: rng.normal(size=(900, 4)) for name in ("a", "b")}
    mixed = np.hstack([start[:, :2], new["a"][:, :2]])  # half of its variance is new
    features = {
        "pretrained": start,
        "turned": start @ np.linalg.qr(rng.normal(size=(4, 4)))[0],
        "mixed": mixed,
        "bespoke 0": new["a"],
        "bespoke 1": new["b"],
    }
    about = np.full(90, 10), np.full(900, 14), np.arange(90)
    errors = compare({n: Features(x, *about) for n, x in features.items()}, n_test=200, n_splits=3)
    found = pretraining_retention(errors, ["bespoke 0", "bespoke 1"])
    assert found.loc["turned", "retention"] == pytest.approx(1, abs=1e-6)
    assert found.loc["mixed", "retention"] == pytest.approx(1 - np.sqrt(0.5), abs=0.05)
    assert found.loc["bespoke 0", "retention"] == pytest.approx(0, abs=0.05)
    assert (found["low"] <= found["retention"]).all()
    assert (found["retention"] <= found["high"]).all()
    with pytest.raises(InputError, match="two bespoke"):
        pretraining_retention(errors, ["bespoke 0"])


def test_energies_are_told_above_what_the_elements_explain():
    """Of cells whose energies are a sum over their atoms, but for one cell, that one stands out."""
    each = {"Cu": -3.5, "Au": -3.0}
    cells, extra = [], 0.2
    for symbols in ("Cu4", "Au4", "Cu2Au2", "Cu2Au2", "Cu3Au"):
        atoms = Atoms(symbols)
        energy = sum(each[s] for s in atoms.symbols) + extra * len(atoms) * (len(cells) == 3)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        cells.append(atoms)
    found, name = structure_property(cells)
    assert name == "energy above its elements (eV/atom)"
    # what two cells of one composition have between them no composition explains
    assert found[3] - found[2] == pytest.approx(extra)
    assert np.sum(found) == pytest.approx(0, abs=1e-9)
    without = [cells[i] for i in (0, 1, 2, 4)]
    assert structure_property(without)[0] == pytest.approx(0, abs=1e-9)
    cells[0].calc = None
    assert structure_property([*cells[1:], bulk("Cu")])[1].startswith("distance")
