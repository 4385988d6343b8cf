"""The comparing call: one number for one cell, honest splits, intervals that cover."""

import numpy as np
import pytest

from umlip_latents import (
    CUTOFF,
    Features,
    FitOptions,
    Split,
    compare,
    reconstruction_matrix,
    split_atoms,
)
from umlip_latents.measures import METRICS
from umlip_latents.measures.splitting import draw_splits
from umlip_latents.resources import InputError

N_ATOMS = np.tile([4, 9, 2, 7], 30)
TOTAL = int(N_ATOMS.sum())
STRUCTURE = np.repeat(np.arange(len(N_ATOMS)), N_ATOMS)
NUMBERS = np.random.default_rng(3).choice([1, 8, 14], TOTAL)


def as_features(**tables) -> dict[str, Features]:
    """Features of 120 structures from plain tables."""
    return {n: Features(x, N_ATOMS, NUMBERS, np.arange(len(N_ATOMS))) for n, x in tables.items()}


@pytest.fixture(scope="module")
def features():
    """Three models that share hidden causes, and the bare element."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(TOTAL, 5)) + rng.normal(size=(len(N_ATOMS), 5))[STRUCTURE]
    return as_features(
        wide=np.tanh(hidden @ rng.normal(size=(5, 12))),
        narrow=hidden[:, :4] ** 2 + hidden[:, :4],
        noisy=np.hstack([hidden, rng.normal(size=(TOTAL, 4))]),
        element=np.eye(15)[NUMBERS],
    )


@pytest.fixture(scope="module")
def tables(features):
    return {name: f.features for name, f in features.items()}


def small(n_test=100, **how):
    return {"split": Split(n_test=n_test, **how)}


def test_a_cell_has_the_same_value_everywhere(features, tables):
    found = compare(features, ("gfre", "lfre"), **small(150), n_splits=3, n_bootstrap=20)
    for metric in found.metrics:
        splits = [split_atoms(N_ATOMS, 150, by="structure", seed=seed) for seed in range(3)]
        each = [reconstruction_matrix(tables, *s, metric, groups=STRUCTURE) for s in splits]
        assert found.matrix(metric).to_numpy() == pytest.approx(np.median(each, axis=0), abs=1e-9)
        rows = found.table[found.table["metric"] == metric]
        by_split = found.by_split[found.by_split["metric"] == metric]
        medians = by_split.groupby(["source", "target"])["error"].median()
        for row in rows.itertuples():
            cell = found.matrix(metric).loc[row.source, row.target]
            assert row.error == cell == medians[row.source, row.target]
            assert found.over([(row.source, row.target)], metric).value == cell
    texts = {t.get_text() for axis in found.heat_map().axes for t in axis.texts}
    assert {f"{v:.2f}" for v in found.table["error"]} <= {t.rstrip("*") for t in texts}
    assert found._repr_html_().count("<table") == 2


@pytest.mark.parametrize("by", ["structure", "system", "atom"])
def test_what_is_held_out_and_how_the_folds_go(features, tables, by):
    found = compare(features, **small(by=by))
    assert found.folds == ("atom" if by == "atom" else "group")
    assert found.n_test == [100]
    if by == "atom":
        expected = reconstruction_matrix(tables, *split_atoms(N_ATOMS, 100, by="atom")).to_numpy()
        assert found.matrix().to_numpy() == pytest.approx(expected, abs=1e-9)


def test_folds_by_atom_and_the_cutoff_can_be_asked_for(features, tables):
    found = compare(features, **small(), options=FitOptions(folds="atom"))
    expected = reconstruction_matrix(tables, *split_atoms(N_ATOMS, 100, by="structure")).to_numpy()
    assert found.matrix().to_numpy() == pytest.approx(expected, abs=1e-9)
    cutoff = compare(features, **small(), options=FitOptions(regularization=CUTOFF)).matrix()
    assert np.abs(cutoff.to_numpy() - expected).max() > 1e-6


def test_groups_are_held_out_together_whatever_was_refused(features):
    labels = np.arange(len(N_ATOMS)) // 10
    kept = np.setdiff1d(np.arange(len(N_ATOMS)), [5, 17])
    some = dict(features, wide=features["wide"].select(kept))
    found = compare(some, **small(groups=labels))
    assert found.structures.tolist() == kept.tolist()
    one = some["wide"]
    held, ((train, test),) = draw_splits(one, Split(n_test=100, groups=labels), 1, False)
    assert (held == labels[one.structure]).all()
    assert not {*labels[one.structure[train]]} & {*labels[one.structure[test]]}
    with pytest.raises(InputError, match="do not label all"):
        compare(features, split=Split(groups=labels[:50]))


def test_within_elements_the_element_is_left_out_by_name(features):
    found = compare(features, **small(), within_element=True, baselines=["element"])
    assert found.names == ("wide", "narrow", "noisy")
    assert "element: features do not vary" in found.left_out["element"]
    plain = compare({k: v for k, v in features.items() if k != "element"}, **small())
    assert (found.matrix() - plain.matrix()).abs().to_numpy().max() > 1e-3


def test_baselines_stand_last_and_apart(features):
    found = compare(dict(reversed(features.items())), **small(), baselines=["element", "absent"])
    assert found.names[-1] == "element"
    assert found.baselines == ("element",)
    assert set(found.models) == {"wide", "narrow", "noisy"}


def half_known(seed: int, n: int) -> dict[str, Features]:
    """Two columns, of which the other table has the first and one of noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4 * n, 2))
    y = np.hstack([x[:, :1], rng.normal(size=(4 * n, 1))])
    about = np.full(n, 4), np.full(4 * n, 14), np.arange(n)
    return {"x": Features(x, *about), "y": Features(y, *about)}


def test_intervals_hold_their_value_and_shrink_with_the_data():
    widths = []
    for n in (40, 600):
        found = compare(half_known(1, n), n_splits=4)
        row = found.table.iloc[0]
        assert row["low"] < row["error"] < row["high"]
        mean = found.over([("x", "y"), ("y", "x")])
        assert mean.low < mean.value < mean.high
        widths.append(row["high"] - row["low"])
    assert widths[1] < 0.5 * widths[0]


def test_an_interval_covers_what_another_draw_of_structures_gives():
    """Over many small worlds the truth lies in the 95 % interval about as often as it should."""
    serial = FitOptions(n_jobs=1)
    rows = (
        compare(half_known(seed, 600), n_splits=3, options=serial).table.iloc[0]
        for seed in range(60)
    )
    hits = [row["low"] < np.sqrt(0.5) < row["high"] for row in rows]
    assert 0.85 <= np.mean(hits) <= 1


def test_means_and_ratios_over_pairs(features):
    found = compare(features, **small())
    pairs, floor = [("wide", "noisy"), ("noisy", "wide")], [("wide", "narrow"), ("wide", "absent")]
    ratio = found.ratio(pairs, floor)
    above, below = found.over([*pairs, ("wide", "wide")]), found.over(floor)
    assert ratio.value == pytest.approx(above.value / below.value)
    # both vary with the same structures
    assert above.low / below.high < ratio.low < ratio.value < ratio.high < above.high / below.low
    assert found.ratio(floor, floor) == (1, 1, 1)
    assert np.isnan(found.ratio(pairs, [("wide", "absent")]).value)
    # a pair counts as often as it is named
    one, other = (found.over([pair]).value for pair in pairs)
    assert found.over([*pairs, pairs[0]]).value == pytest.approx((2 * one + other) / 3)


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_that_involve_some_names_are_what_they_are_among_all(features, metric):
    all_pairs, some = (
        compare(
            features,
            [metric],
            **small(),
            n_splits=2,
            options=FitOptions(n_test_local=20, involving=names),
        )
        for names in (None, ["noisy", "unknown", ("wide", "narrow")])
    )
    asked = [("wide", "narrow")]
    among = np.array([(s, t) in asked or "noisy" in (s, t) for s in features for t in features])
    for kind in (metric, "neighbours") if metric == "lfre" else (metric,):
        whole, part = (found.matrix(kind).to_numpy().ravel() for found in (all_pairs, some))
        assert part[among] == pytest.approx(whole[among], rel=1e-9)
        assert np.isnan(part[~among]).all()
    assert len(some.table) == 7
    assert some.by_split["error"].notna().all()


def test_a_share_of_the_training_is_tested_on_the_same_atoms(features):
    whole, half, quarter = (
        compare(features, **small(train_share=s), n_splits=2) for s in (1.0, 0.5, 0.25)
    )
    assert whole.n_test == half.n_test == quarter.n_test
    for more, less in ((whole, half), (half, quarter)):
        assert np.divide(less.n_train, more.n_train) == pytest.approx([0.5, 0.5], abs=0.1)
    assert quarter.matrix().loc["noisy", "wide"] > whole.matrix().loc["noisy", "wide"]


def of_carriers(n: int, size: float = 1e3) -> np.ndarray:
    """One column for 60 structures of 4 atoms, n of which lie so many times as far out."""
    return np.tile([-1.0, 1.0], 120)[:, None] * np.where(np.arange(240) < 4 * n, size, 1)[:, None]


def test_names_whose_variance_few_structures_carry_are_told_and_marked():
    n_atoms, numbers = np.full(60, 4), np.full(240, 14)
    tables = {"four": of_carriers(4, 10), "eleven": of_carriers(11), "twelve": of_carriers(12)}
    sets = {n: Features(x, n_atoms, numbers, np.arange(60)) for n, x in tables.items()}
    found = compare(sets, n_bootstrap=0)
    # four carry 400 of 456, as do five all but one of the rest; twelve is where it is enough
    words = "0.88 of its variance lies in 5 of 60 structures, errors onto it tell of little else."
    assert list(found.warnings) == ["four", "eleven"]
    assert found.warnings["four"] == f"four: {words}"
    labels = [label.get_text() for label in found.heat_map().axes[0].get_yticklabels()]
    assert labels == ["four †", "eleven †", "twelve"]
    assert words in found._repr_html_()
    few = compare({n: f.select([0, 1, 20]) for n, f in sets.items()})
    assert list(few.warnings) == ["structures"]
    assert few.warnings["structures"].startswith("structures: only 3, so which")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"split": Split(train_share=0)}, "train_share 0"),
        (lambda: {"split": "element"}, "split by element"),
        (lambda: {"options": FitOptions(folds="random")}, "folds by random"),
        (lambda: {"options": FitOptions(device="abacus")}, "device abacus: PyTorch has no such"),
        (lambda: {"options": FitOptions(n_test_local=0)}, "n_test_local 0"),
        (lambda: {"n_bootstrap": -1}, "n_bootstrap -1"),
        (lambda: {"options": FitOptions(involving=["gold", "lead"])}, "involving gold, lead: none"),
        (lambda: {"metrics": "rmse"}, "rmse: no such metric"),
        (lambda: {"metrics": np.poly1d([1])}, "needs a __name__"),
        (lambda: {"metrics": ["gfre", "gfre"]}, "each once"),
        (lambda: {"split": Split(n_test=TOTAL)}, "n_test"),
    ],
)
def test_bad_words_are_refused(features, change, message):
    with pytest.raises(InputError, match=message):
        compare(features, **change())


def test_bad_features_are_refused(features):
    constant = as_features(a=np.ones((TOTAL, 2)), b=features["wide"].features)
    for few in ({"wide": features["wide"]}, constant):
        with pytest.raises(InputError, match="Two sets of features are needed"):
            compare(few)
