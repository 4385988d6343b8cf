"""Novelty against closed forms and other implementations."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from umlip_latents import Features
from umlip_latents.analysis.novelty import (
    RIDGE,
    VARIANCE_SHARE,
    novelty,
    novelty_scores,
)
from umlip_latents.resources import InputError


def features_of(x, n_atoms=None, **about):
    """Features of structures with so many atoms each, by default one."""
    n_atoms = np.ones(len(x), dtype=int) if n_atoms is None else np.asarray(n_atoms)
    return Features(np.asarray(x), n_atoms, np.ones(len(x), int), np.arange(len(n_atoms)), **about)


@pytest.fixture
def clouds():
    """A reference of 200 atoms in correlated directions of unlike spread, and new ones."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6)) * [9, 4, 2, 1, 0.3, 0.1]
    return rng.normal(size=(200, 6)) @ mix.T + 5, rng.normal(size=(40, 6)) @ mix.T * 2


def centred(x, y):
    """Both in units of the reference's spread."""
    return tuple((z - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum()) for z in (x, y))


def test_distance_and_sparsity_agree_with_brute_force(clouds):
    found = novelty_scores(*map(features_of, clouds))
    distances = np.sort(cdist(*centred(*clouds)), axis=0)
    np.testing.assert_allclose(found["distance"], distances[0], rtol=1e-9)
    np.testing.assert_allclose(found["sparsity"], distances[4], rtol=1e-9)


def test_leverage_is_that_of_ridge_regression(clouds):
    x, y = centred(*clouds)
    found = novelty_scores(*map(features_of, clouds))["leverage"]
    gram = x.T @ x + RIDGE * len(x) * np.eye(6)
    np.testing.assert_allclose(found, np.diag(y @ np.linalg.solve(gram, y.T)), rtol=1e-9)


def test_residual_is_what_a_principal_component_analysis_leaves(clouds):
    x, y = centred(*clouds)
    _, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = np.searchsorted(np.cumsum(s**2) / (s**2).sum(), VARIANCE_SHARE) + 1
    assert 0 < rank < 6
    left = y - y @ vt[:rank].T @ vt[:rank]
    found = novelty_scores(*map(features_of, clouds))["residual"]
    np.testing.assert_allclose(found, np.linalg.norm(left, axis=1), rtol=1e-9)


def siblings(rng, n):
    """Structures in families of four that lie close together, and what family each is of."""
    centres = np.repeat(rng.normal(size=(n // 4, 8)), 4, axis=0)
    return features_of(centres + rng.normal(0, 0.05, (n, 8))), np.arange(n) // 4


def test_percentiles_of_exchangeable_structures_are_uniform():
    rng = np.random.default_rng(0)
    drawn = [siblings(rng, 160) for _ in range(8)]
    one = [
        novelty(known, new, groups=labels)
        for (known, labels), (new, _) in zip(drawn[:4], drawn[4:], strict=True)
    ]
    for score in ("distance", "leverage"):
        # one of each family, since siblings share their percentile
        values = np.concatenate([found[f"{score}_percentile"].to_numpy()[::4] for found in one])
        assert kstest(values / 100, "uniform").pvalue > 0.01
    # with its siblings at hand every structure of the reference looks familiar, and all else new
    known, new = drawn[0][0], drawn[4][0]
    assert novelty(known, new)["distance_percentile"].median() > 99


def test_too_little_is_refused(clouds):
    x, _ = clouds
    few, alike = features_of(x[:4]), features_of(np.ones((9, 2)))
    with pytest.raises(InputError, match="4 structures or groups: a reference"):
        novelty(few, few)
    with pytest.raises(InputError, match="do not vary"):
        novelty_scores(alike, alike)
