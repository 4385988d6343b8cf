"""Duplicates, choice and distances against closed forms, greedy rules, crystals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from umlip_latents import cumulant_features, extract_features
from umlip_latents.analysis.properties import equivalent_copies
from umlip_latents.analysis.selection import (
    CUMULANT_ORDER,
    farthest_points,
    maximum_mean_discrepancy,
    near_duplicates,
)
from umlip_latents.resources import InputError

from .test_novelty import features_of


def test_discrepancy_agrees_with_a_double_loop():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 2)), 1 + rng.normal(size=(5, 2))
    both = np.vstack([x, y])
    width = np.median(pdist(both))

    def mean(a, b):
        pairs = [(p, q) for p in a for q in b if p is not q]
        return np.mean([np.exp(-((p - q) ** 2).sum() / (2 * width**2)) for p, q in pairs])

    x, y = [*x], [*y]
    expected = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    found = maximum_mean_discrepancy(both, [np.arange(12) < 7])
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_farthest_points_agree_with_the_greedy_rule():
    rng = np.random.default_rng(0)
    atoms = replace(features_of(rng.normal(size=(120, 3)), [4] * 30), kept=10 + 2 * np.arange(30))
    x = cumulant_features(atoms.features, atoms.n_atoms, CUMULANT_ORDER)
    x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum())
    chosen, radii = [int(np.linalg.norm(x, axis=1).argmin())], []
    while len(chosen) <= 12:
        nearest = cdist(x, x[chosen]).min(axis=1)
        radii.append(nearest.max())
        chosen.append(int(nearest.argmax()))
    found = farthest_points(atoms, 12)
    assert found["structure"].tolist() == atoms.kept[chosen[:12]].tolist()
    np.testing.assert_allclose(found["radius"], radii, rtol=1e-7)
    assert (np.diff(found["radius"]) <= 0).all()


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj"])
def test_copies_of_a_crystal_are_duplicates(name, models, crystals):
    rng = np.random.default_rng(0)
    copies, strained = [], [a.copy() for a in crystals]
    for atoms in crystals:
        copies += equivalent_copies(atoms, rng).values()
    for atoms in strained:
        atoms.set_cell(atoms.cell.array * 1.05, scale_atoms=True)
    found = extract_features([*crystals, *copies, *strained], models[name], progress=False)
    originals, others = found.select(range(4)), found.select(range(4, 24))
    pairs = near_duplicates(originals, others)
    expected = {(i, 4 + 4 * i + j) for i in range(4) for j in range(4)}
    assert {*zip(pairs["first"], pairs["second"], strict=True)} == expected
    assert pairs["distance"].max() < 1e-4
    inside = near_duplicates(found.select(range(20)))
    assert (inside["first"] < inside["second"]).all()
    assert len(inside) == 4 * 10  # the pairs of five copies of each crystal
    assert len(near_duplicates(originals)) == 0


def test_too_little_is_refused():
    few = features_of(np.random.default_rng(0).normal(size=(4, 3)))
    with pytest.raises(InputError, match="do not vary"):
        farthest_points(features_of(np.ones((9, 2))), 2)
    for n in (0, 5):
        with pytest.raises(InputError, match=f"n {n}"):
            farthest_points(few, n)
