"""The comparing call: one number for one cell, honest splits, intervals that cover."""

from dataclasses import replace

import numpy as np
import pytest

from umlip_latents import (
    CUTOFF,
    Features,
    compare,
    extract_features,
    load_structures,
    reconstruction_matrix,
    split_atoms,
)
from umlip_latents.metrics import METRICS
from umlip_latents.resources import InputError

N_ATOMS = np.tile([4, 9, 2, 7], 30)
TOTAL = int(N_ATOMS.sum())
NUMBERS = np.random.default_rng(3).choice([1, 8, 14], TOTAL)


def made(**tables) -> dict[str, Features]:
    """Features of 120 structures from plain tables."""
    return {n: Features(x, N_ATOMS, NUMBERS, np.arange(len(N_ATOMS))) for n, x in tables.items()}


@pytest.fixture(scope="module")
def features():
    """Three models that share hidden causes, and the bare element."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(TOTAL, 5)) + np.repeat(rng.normal(size=(len(N_ATOMS), 5)), N_ATOMS, 0)
    return made(
        wide=np.tanh(hidden @ rng.normal(size=(5, 12))),
        narrow=hidden[:, :4] ** 2 + hidden[:, :4],
        noisy=np.hstack([hidden, rng.normal(size=(TOTAL, 4))]),
        element=np.eye(15)[NUMBERS],
    )


def test_a_cell_has_the_same_value_everywhere(features):
    found = compare(features, metrics=("gfre", "lfre"), n_splits=3, n_test=150, n_bootstrap=20)
    tables = {name: f.features for name, f in features.items()}
    owner = np.repeat(np.arange(len(N_ATOMS)), N_ATOMS)
    for metric in found.metrics:
        each = [
            reconstruction_matrix(
                tables,
                *split_atoms(N_ATOMS, 150, by="structure", seed=seed),
                metric,
                groups=owner,
            )
            for seed in range(3)
        ]
        expected = np.median(each, axis=0)
        assert found.matrix(metric).to_numpy() == pytest.approx(expected, abs=1e-12)
        rows = found.table[found.table["metric"] == metric]
        by_split = found.by_split[found.by_split["metric"] == metric]
        medians = by_split.groupby(["source", "target"])["error"].median()
        for row in rows.itertuples():
            cell = found.matrix(metric).loc[row.source, row.target]
            assert row.error == cell == medians[row.source, row.target]
            assert found.mean([row.source], [row.target], metric).value == cell
    texts = {t.get_text() for axis in found.heat_map().axes for t in axis.texts}
    assert {f"{v:.2f}" for v in found.table["error"]} <= {t.rstrip("*") for t in texts}


@pytest.mark.parametrize("by", ["structure", "system", "atom"])
def test_what_is_held_out_and_how_the_folds_go(features, by):
    found = compare(features, by=by, n_test=100)
    assert found.folds == ("atom" if by == "atom" else "group")
    assert found.n_test == [100]
    train, test = split_atoms(N_ATOMS, 100, by="atom")
    if by == "atom":
        tables = {name: f.features for name, f in features.items()}
        expected = reconstruction_matrix(tables, train, test).to_numpy()
        assert found.matrix().to_numpy() == pytest.approx(expected, abs=1e-12)


def test_folds_by_atom_and_the_cutoff_can_be_asked_for(features):
    found = compare(features, folds="atom", n_test=100)
    tables = {name: f.features for name, f in features.items()}
    split = split_atoms(N_ATOMS, 100, by="structure")
    expected = reconstruction_matrix(tables, *split).to_numpy()
    assert found.matrix().to_numpy() == pytest.approx(expected, abs=1e-12)
    cutoff = compare(features, n_test=100, regularization=CUTOFF).matrix().to_numpy()
    assert np.abs(cutoff - expected).max() > 1e-6


def test_groups_are_held_out_together_whatever_was_refused(features):
    labels = np.arange(len(N_ATOMS)) // 10
    kept = np.setdiff1d(np.arange(len(N_ATOMS)), [5, 17])
    some = dict(features, wide=features["wide"].select(kept))
    some["wide"].dropped = {5: "too large", 17: "too small"}
    found = compare(some, groups=labels, n_test=100)
    assert found.structures.tolist() == kept.tolist()
    assert found.dropped == {5: "too large", 17: "too small"}
    # at most as many groups among the test atoms as there are labels
    assert len(found.squares["gfre"][0][1]) <= 12
    with pytest.raises(InputError, match="do not label all"):
        compare(features, groups=labels[:50])


def test_within_elements_the_element_is_left_out_by_name(features):
    found = compare(features, within_element=True, baselines=["element"], n_test=100)
    assert found.names == ("wide", "narrow", "noisy")
    assert "element: features do not vary" in found.left_out["element"]
    assert "Left out element" in str(found)
    plain = compare({k: v for k, v in features.items() if k != "element"}, n_test=100)
    assert (found.matrix() - plain.matrix()).abs().to_numpy().max() > 1e-3


def test_baselines_stand_last_and_apart(features):
    found = compare(dict(reversed(features.items())), baselines=["element", "absent"], n_test=100)
    assert found.names[-1] == "element"
    assert found.baselines == ("element",)
    assert set(found.models) == {"wide", "narrow", "noisy"}


def test_intervals_hold_their_value_and_shrink_with_the_data():
    rng = np.random.default_rng(1)
    widths = []
    for n in (40, 600):
        x, n_atoms = rng.normal(size=(5 * n, 3)), np.full(n, 5)
        y = np.hstack([x[:, :1], rng.normal(size=(5 * n, 2))])
        about = n_atoms, np.full(5 * n, 14), np.arange(n)
        found = compare({"x": Features(x, *about), "y": Features(y, *about)}, n_splits=4)
        row = found.table.iloc[0]
        assert row["low"] < row["error"] < row["high"]
        mean = found.mean(["x", "y"], ["x", "y"])
        assert mean.low < mean.value < mean.high
        widths.append(row["high"] - row["low"])
    assert widths[1] < 0.5 * widths[0]


def test_an_interval_covers_what_another_draw_of_structures_gives():
    """Over many small worlds the truth lies in the 95 % interval about as often as it should."""
    truth = np.sqrt(0.5)
    hits = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(2400, 2))
        y = np.hstack([x[:, :1], rng.normal(size=(2400, 1))])
        about = np.full(600, 4), np.full(2400, 14), np.arange(600)
        found = compare({"x": Features(x, *about), "y": Features(y, *about)}, n_splits=3)
        row = found.table.iloc[0]
        hits.append(row["low"] < truth < row["high"])
    assert 0.85 <= np.mean(hits) <= 1


def test_without_resamples_there_are_no_intervals(features):
    found = compare(features, n_test=100, n_bootstrap=0)
    assert found.table["low"].isna().all()
    assert str(found.mean(["wide"], ["noisy"])).count(" ") == 0
    assert np.isnan(found.mean(["wide"], ["absent"]).value)


def test_a_ratio_varies_less_than_what_it_is_made_of(features):
    found = compare(features, n_test=100)
    pairs, floor = [("wide", "noisy"), ("noisy", "wide")], [("wide", "narrow"), ("wide", "absent")]
    ratio = found.ratio(pairs, floor)
    above = found.mean(["wide", "noisy"], ["wide", "noisy"])
    below = found.mean(["wide"], ["narrow"])
    assert ratio.value == pytest.approx(above.value / below.value)
    assert above.low / below.high < ratio.low < ratio.value < ratio.high < above.high / below.low
    assert found.over(pairs).value == pytest.approx(above.value)
    assert found.ratio(floor, floor) == (1, 1, 1)
    assert np.isnan(found.ratio(pairs, [("wide", "absent")]).value)


def test_a_mean_counts_a_pair_as_often_as_it_is_named(features):
    found = compare(features, n_test=100)
    one, other = ("wide", "noisy"), ("noisy", "narrow")
    errors = [found.mean([source], [target]).value for source, target in (one, other)]
    assert found.over([one, other, one]).value == pytest.approx((2 * errors[0] + errors[1]) / 3)


def test_errors_of_some_elements_only(features):
    found = compare(features, elements=["O", "Si"], n_test=200)
    tables = {name: f.features for name, f in features.items()}
    train, test = split_atoms(N_ATOMS, 200, by="structure")
    owner = np.repeat(np.arange(len(N_ATOMS)), N_ATOMS)
    test = test[np.isin(NUMBERS[test], [8, 14])]
    expected = reconstruction_matrix(tables, train, test, groups=owner).to_numpy()
    assert found.matrix().to_numpy() == pytest.approx(expected, abs=1e-12)
    assert found.n_test == [len(test)]


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_through_some_names_are_what_they_are_among_all(features, metric):
    how = {"metrics": [metric], "n_test": 100, "n_test_local": 20, "n_splits": 2, "baselines": []}
    all_pairs, some = (compare(features, through=t, **how) for t in (None, ["noisy", "unknown"]))
    among = np.array([s == "noisy" or t == "noisy" for s in features for t in features])
    for kind in (metric, "neighbours") if metric == "lfre" else (metric,):
        whole, part = (found.matrix(kind).to_numpy().ravel() for found in (all_pairs, some))
        assert part[among] == pytest.approx(whole[among], rel=1e-9)
        assert np.isnan(part[~among]).all()
    assert len(some.table) == 6
    assert some.by_split["error"].notna().all()
    if metric == "lfre":
        assert " of 6 lie below" in str(some)


def test_a_share_of_the_training_is_tested_on_the_same_atoms(features):
    whole, half, quarter = (
        compare(features, n_test=100, n_splits=2, train_share=s) for s in (1.0, 0.5, 0.25)
    )
    assert whole.n_test == half.n_test == quarter.n_test
    for more, less in ((whole, half), (half, quarter)):
        assert [b / a for a, b in zip(more.n_train, less.n_train, strict=True)] == pytest.approx(
            [0.5, 0.5], abs=0.1
        )
    assert quarter.matrix().loc["noisy", "wide"] > whole.matrix().loc["noisy", "wide"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_share": 0}, "train_share 0"),
        ({"by": "element"}, "split by element"),
        ({"folds": "random"}, "folds by random"),
        ({"metrics": ["rmse"]}, "no such metric"),
        ({"metrics": ["gfre", "rmse"], "n_test": 10**6}, "no such metric"),  # before any work
        ({"n_test": TOTAL}, "n_test"),
        ({"elements": ["U"]}, "no test atom"),
        ({"through": ["gold", "lead"]}, "through gold, lead: none of these is compared"),
    ],
)
def test_bad_words_are_refused(features, change, message):
    with pytest.raises(InputError, match=message):
        compare(features, **change)


def test_bad_features_are_refused(features):
    with pytest.raises(InputError, match="at least two sets"):
        compare({"wide": features["wide"]})
    with pytest.raises(InputError, match="Two sets of features are needed"):
        compare(made(a=np.ones((TOTAL, 2)), b=features["wide"].features))
    other = Features(features["wide"].features, N_ATOMS, 15 - NUMBERS, np.arange(len(N_ATOMS)))
    with pytest.raises(InputError, match="a and b: do not describe the same structures"):
        compare({"a": features["wide"], "b": other})


CHECKPOINTS = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan", "mini-mace-mptrj")


def test_local_maps_of_real_checkpoints_beat_their_neighbours_mean():
    """Folds by structure: no local map of a held-out structure runs away."""
    structures = load_structures("embedded")
    real = {n: extract_features(structures, n, progress=False) for n in CHECKPOINTS}
    found = compare(real, metrics=("lfre",), n_test_local=125, n_bootstrap=0)
    ratio = found.table["error"] / found.table["neighbours"]
    assert ratio.median() < 1
    assert ratio.max() < 1.25


def test_what_was_refused_is_counted_and_the_tables_are_shown_in_a_notebook(features):
    some = {name: features[name] for name in ("wide", "narrow")}
    told = {"n_test": 100, "metrics": ("gfre", "lfre")}
    plain = compare(some, **told)
    assert "refused" not in str(plain)
    refusing = {**some, "narrow": replace(some["narrow"], dropped={120: "too big", 121: "too big"})}
    assert "Structures that a model refused: 2." in str(compare(refusing, **told))
    shown = plain._repr_html_()
    assert shown.startswith(f"<p>{plain}</p>")
    assert shown.count("<table") == 2
    assert f"{plain.matrix('gfre').loc['wide', 'narrow']:.3f}"[:5] in shown
