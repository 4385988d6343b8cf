"""Stitched energies whose errors are known."""

import numpy as np
import pytest

from umlip_latents import Features, compare, split_atoms
from umlip_latents.analysis.stitching import stitching_errors
from umlip_latents.models.base import Readout

RNG = np.random.default_rng(1)
N_ATOMS = np.tile([3, 4, 5], 40)
NUMBERS = RNG.choice([8, 14, 29], N_ATOMS.sum())
ONE_HOT = 1.0 * (NUMBERS[:, None] == np.unique(NUMBERS))
X = RNG.normal(size=(len(NUMBERS), 6)) + ONE_HOT @ RNG.normal(size=(3, 6))


def described(features: np.ndarray) -> Features:
    """By these features, the same structures."""
    return Features(features, N_ATOMS, NUMBERS, np.arange(len(N_ATOMS)))


def test_a_network_costs_nothing_onto_itself_however_it_is_turned():
    turned = X @ np.linalg.qr(RNG.normal(size=(6, 6)))[0] + 2
    sources = {"itself": described(X), "turned": described(turned)}
    gated = Readout(RNG.normal(size=(6, 2)), np.array([0.3, -1.0]))
    found = stitching_errors(sources, {"itself": described(X)}, {"itself": gated})
    assert found["error"].max() < 1e-2 < 1e-4 * found["spread"].min()  # the map is regularised
    assert found["own"].isna().tolist() == [False, True]
    assert found["own"][0] == 0


def test_the_element_costs_what_a_model_of_the_composition_misses():
    """And networks agree whose energies differ by something for each element."""
    shifts, weights = np.array([[3.0], [1.0], [-2.0]]), RNG.normal(size=(6, 1))
    targets = {"net": described(X), "shifted": described(np.hstack([X, ONE_HOT]))}
    readouts = {"net": Readout(weights, np.ones(1))}
    readouts["shifted"] = Readout(np.vstack([weights, shifts]), np.ones(1))
    sources = {**targets, "element": described(ONE_HOT)}
    found = stitching_errors(sources, targets, readouts, n_splits=3)
    found = found.set_index(["source", "target"])
    assert found.loc["net", "own"].max() < 1e-9
    errors = compare(sources, n_splits=3, n_bootstrap=0).matrix()
    for pair, gfre in found["gfre"].items():
        assert gfre == pytest.approx(errors.loc[pair], abs=1e-6)

    missed, place = [], np.repeat(np.arange(len(N_ATOMS)), N_ATOMS)
    for seed in range(3):
        train, test = split_atoms(N_ATOMS, len(X) // 4, by="structure", seed=seed)
        energies = np.linalg.lstsq(ONE_HOT[train], X[train] @ weights)[0]
        wrong = 1000 * np.bincount(place, (ONE_HOT @ energies - X @ weights)[:, 0]) / N_ATOMS
        missed.append(np.abs(wrong[np.unique(place[test])]).mean())
    assert found.loc[("element", "net"), "error"] == pytest.approx(np.median(missed), rel=1e-3)
    composition = found.loc["element", ["shifted", "spread"]]
    assert composition["shifted"].tolist() == pytest.approx(composition["spread"].tolist())
