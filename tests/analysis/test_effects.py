"""Effects of one changed thing beside the spread between seeds, in worlds where they are known."""

import numpy as np
import pytest

from umlip_latents import Features, compare
from umlip_latents.analysis.effects import controlled_models, effect_table
from umlip_latents.measures.compare import Split
from umlip_latents.resources import InputError

BASE = ("b0", "b1", "b2")
SEEDS = {"b0": 0, "b1": 1, "b2": 2, "seed-like": 3, "poorer": 0}


@pytest.fixture(scope="module")
def comparison():
    """Base seeds that share 6 directions and own 2 each, one more of these, and a poorer model."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(800, 6))
    about = np.full(80, 10), np.full(800, 14), np.arange(80)
    features = {"poorer": Features(shared[:, :3] @ rng.normal(size=(3, 5)), *about)}
    for name in (*BASE, "seed-like"):
        x = np.concatenate([shared, rng.normal(size=(800, 2))], axis=1)
        features[name] = Features(x @ np.linalg.qr(rng.normal(size=(8, 8)))[0], *about)
    return compare(features, split=Split(n_test=200), n_splits=3)


def rows(table, level):
    return table[table["level"] == level].set_index("direction")


def test_the_floor_is_the_mean_over_pairs_of_seeds_of_medians_over_splits(comparison):
    table = effect_table(comparison, SEEDS, BASE, {})
    medians = comparison.matrix().loc[[*BASE], [*BASE]].to_numpy()
    assert table["error"][0] == pytest.approx(medians[~np.eye(3, dtype=bool)].mean(), rel=1e-10)
    assert table["ratio"][0] == 1


def test_a_poorer_level_is_contained_in_the_base_but_does_not_contain_it(comparison):
    found = rows(effect_table(comparison, SEEDS, BASE, {"poorer": ["poorer"]}), "poorer")
    assert found.loc["base to level", "error"] < 0.02
    assert found.loc["base to level", "ratio_high"] < 0.1
    assert found.loc["level to base", "ratio_low"] > 1.2


@pytest.mark.parametrize("base", [[], ["b0"], ["b0", "b1", "poorer"]])
def test_a_floor_needs_two_base_models_of_unlike_seeds(comparison, base):
    with pytest.raises(InputError, match="a seed floor needs two base models or more"):
        effect_table(comparison, SEEDS, base, {"poorer": ["poorer"]})


def test_models_of_one_seed_stand_on_their_own(comparison):
    """A level that is its own seed's base model changes nothing, whatever the other seeds do."""
    level = {"copy": ["b1"]}
    found = rows(effect_table(comparison, SEEDS, BASE, level), "copy")
    assert (found["same_seed"] < 1e-6).all()
    to_others = comparison.matrix().loc[["b0", "b2"], "b1"].mean()
    assert found.loc["base to level", "error"] == pytest.approx(to_others, rel=1e-10)
    apart = rows(effect_table(comparison, {**SEEDS, "b1": 1}, BASE, {"x": ["seed-like"]}), "x")
    assert apart["same_seed"].isna().all()


@pytest.mark.parametrize("aspects", [[], ["loss", "weather"]])
def test_an_aspect_that_is_none_is_named(aspects):
    with pytest.raises(InputError, match=f"{(aspects or ['nothing'])[-1]}: no such aspect"):
        controlled_models(aspects)
