"""Effects of one changed thing beside the spread between seeds, in worlds where they are known."""

import numpy as np
import pytest

from umlip_latents import Features, compare
from umlip_latents.comparison import draws
from umlip_latents.effects import controlled_models, drawn_seeds, effect_table
from umlip_latents.resources import InputError

N_ATOMS = np.full(80, 10)
BASE = ("b0", "b1", "b2")
SEEDS = {name: i for i, name in enumerate((*BASE, "seed-like", "other seed-like"))}
SEEDS |= {"poorer": 0, "alien": 1}


@pytest.fixture(scope="module")
def world():
    """Base seeds that share 6 directions and own 2 each, and levels of every relation to them."""
    rng = np.random.default_rng(0)
    shared, wide = rng.normal(size=(800, 6)), rng.normal(size=(800, 12))

    def model(common, n_own=2):
        x = np.concatenate([common, rng.normal(size=(800, n_own))], axis=1)
        return x @ np.linalg.qr(rng.normal(size=(8, 8)))[0]

    features = {name: model(shared) for name in (*BASE, "seed-like", "other seed-like")}
    features["poorer"] = shared[:, :3] @ rng.normal(size=(3, 5))
    features["alien"] = wide @ rng.normal(size=(12, 8))
    return features


def compared(tables, numbers=None, **options):
    """The comparison of plain tables, three splits by structure."""
    numbers = np.full(800, 14) if numbers is None else numbers
    features = {n: Features(x, N_ATOMS, numbers, np.arange(80)) for n, x in tables.items()}
    return compare(features, **{"n_test": 200, "n_splits": 3, **options})


@pytest.fixture(scope="module")
def splits(world):
    return compared(world)


def rows(table, level):
    return table[table["level"] == level].set_index("direction")


def test_the_floor_is_the_mean_over_pairs_of_seeds(splits):
    table = effect_table(splits, SEEDS, BASE, {})
    errors = splits.by_split.query("source in @BASE and target in @BASE")["error"]
    assert table["error"][0] == pytest.approx(errors.mean(), rel=1e-10)
    assert table["ratio"][0] == 1


def test_another_seed_is_no_effect(splits):
    table = effect_table(splits, SEEDS, BASE, {"seed": ["seed-like", "other seed-like"]})
    for _, row in rows(table, "seed").iterrows():
        assert row["ratio_low"] < 1 < row["ratio_high"]
        assert row["ratio"] == pytest.approx(1, abs=0.05)


def test_a_poorer_level_is_contained_in_the_base_but_does_not_contain_it(splits):
    found = rows(effect_table(splits, SEEDS, BASE, {"poorer": ["poorer"]}), "poorer")
    assert found.loc["base to level", "error"] < 0.02
    assert found.loc["base to level", "ratio_high"] < 0.1
    assert found.loc["level to base", "ratio_low"] > 1.2


def test_an_alien_level_shares_nothing(splits):
    found = rows(effect_table(splits, SEEDS, BASE, {"alien": ["alien"]}), "alien")
    assert (found["error"] > 0.95).all()
    assert (found["ratio_low"] > 1.5).all()


def test_intervals_hold_their_value_and_are_reproducible(splits):
    one, other = (effect_table(splits, SEEDS, BASE, {"alien": ["alien"]}) for _ in range(2))
    assert one.equals(other)
    for name in ("error", "floor", "ratio"):
        assert (one[f"{name}_low"] <= one[name]).all()
        assert (one[name] <= one[f"{name}_high"]).all()


def test_more_structures_narrow_the_interval(world):
    def width(n_test):
        table = effect_table(compared(world, n_test=n_test, n_splits=1), SEEDS, BASE, {})
        return table["error_high"][0] - table["error_low"][0]

    assert width(400) < width(50)


def test_within_elements_takes_the_element_off(world):
    """Features that know the element alone share everything, until its mean is taken off."""
    rng = np.random.default_rng(1)
    numbers = rng.integers(1, 6, 800)
    one_hot = np.eye(6)[numbers]
    features = {
        name: one_hot @ rng.normal(size=(6, 8)) + 0.1 * rng.normal(size=(800, 8)) for name in BASE
    }
    overall = effect_table(compared(features, numbers), SEEDS, BASE, {})
    within = effect_table(compared(features, numbers, within_element=True), SEEDS, BASE, {})
    assert overall["error"][0] < 0.3
    assert within["error"][0] > 0.95


def test_draws_keep_the_number_of_structures():
    found = draws(7, 50, np.random.default_rng(0))
    assert found.shape == (51, 7)
    assert (found.sum(axis=1) == 7).all()
    assert (found[0] == 1).all()
    assert found[1:].max() > 1


def test_drawn_seeds_are_never_all_the_same():
    rng = np.random.default_rng(0)
    assert all(len(set(drawn_seeds(2, rng))) == 2 for _ in range(50))


def test_models_of_one_seed_stand_on_their_own(world, splits):
    """A level that is its own seed's base model changes nothing, whatever the other seeds do."""
    level = {"copy": ["b1"]}
    found = rows(effect_table(splits, SEEDS, BASE, level), "copy")
    assert (found["same_seed"] < 1e-6).all()
    pairs = splits.by_split[splits.by_split["target"] == "b1"]
    to_others = pairs[pairs["source"].isin(["b0", "b2"])]["error"].mean()
    assert found.loc["base to level", "error"] == pytest.approx(to_others, rel=1e-10)
    apart = rows(effect_table(splits, {**SEEDS, "b1": 1}, BASE, {"x": ["seed-like"]}), "x")
    assert apart["same_seed"].isna().all()


def test_models_of_some_aspects_stand_beside_the_seeds():
    whole, some = controlled_models(), controlled_models(["loss"])
    assert set(some["aspect"]) == {"seed", "loss"} < set(whole["aspect"])
    chosen = whole["aspect"].isin(["seed", "loss"])
    assert some["name"].tolist() == whole["name"][chosen].tolist()


@pytest.mark.parametrize("aspects", [[], ["loss", "weather"]])
def test_an_aspect_that_is_none_is_named(aspects):
    with pytest.raises(InputError, match=f"{(aspects or ['nothing'])[-1]}: no such aspect"):
        controlled_models(aspects)
