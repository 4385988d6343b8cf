"""What the catalogue says of the kinship of checkpoints."""

import numpy as np
import pytest

from umlip_latents import Features, compare, list_models
from umlip_latents.lineage import (
    ASPECTS,
    NOTHING,
    differences,
    fine_tunings,
    natural_experiments,
)

CHGNET = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan")
SEVENNET = ("7net-0_22May2024", "7net-0", "7net-l3i5", "7net-mf-0-PBE", "7net-mf-0-R2SCAN")


def pair(source: str, target: str) -> tuple[str, str]:
    """What the table says of one pair."""
    table = natural_experiments([source, target])
    row = table[(table["source"] == source) & (table["target"] == target)].squeeze()
    return row["differs"], row["start"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("chgnet-0.3.0", "chgnet-r2scan", ("data and functional", "tuned")),
        ("chgnet-r2scan", "chgnet-0.3.0", ("data and functional", "back")),
        ("chgnet-0.2.0", "chgnet-0.3.0", ("architecture", "scratch")),
        ("7net-0", "7net-l3i5", ("architecture", "scratch")),
        ("7net-0_22May2024", "7net-0", ("data", "scratch")),
        ("7net-mf-0-PBE", "7net-mf-0-R2SCAN", ("functional", "same")),
        ("7net-0", "chgnet-0.3.0", ("architecture and objective", "scratch")),
    ],
)
def test_what_sets_two_checkpoints_apart(source, target, expected):
    assert pair(source, target) == expected


def test_pairs_go_both_ways_and_differ_by_the_same():
    table = natural_experiments([*CHGNET, *SEVENNET]).set_index(["source", "target"])
    opposite = {"tuned": "back", "back": "tuned"}
    for (source, target), row in table.iterrows():
        back = table.loc[(target, source)]
        assert back["differs"] == row["differs"]
        assert back["start"] == opposite.get(row["start"], row["start"])


def test_other_architectures_are_paired_on_the_same_data_alone():
    table = natural_experiments([*CHGNET, *SEVENNET])
    assert table.query("source == 'chgnet-r2scan' and target == '7net-0'").empty


def test_models_of_unknown_training_have_no_pair():
    assert natural_experiments(["element", "chgnet-untrained-s0", "mine.py:Mine", "7net-0"]).empty


def test_every_ancestor_is_in_the_catalogue_and_trained():
    catalogue = list_models()
    for name, entry in catalogue.items():
        if "started_from" in entry:
            assert {*ASPECTS} <= {*catalogue[entry["started_from"]]}, name


def test_two_trainings_that_the_catalogue_cannot_tell_apart(monkeypatch):
    entry = list_models()["7net-0"]
    again = {**entry, "sha256": "another file"}
    monkeypatch.setattr("umlip_latents.lineage.list_models", lambda: {"a": entry, "b": again})
    assert pair("a", "b") == (NOTHING, "scratch")


def test_each_difference_stands_beside_others_of_the_same_targets():
    """Three checkpoints on the same targets as two others: each number from the table of errors."""
    rng = np.random.default_rng(0)
    about = np.full(40, 4), np.full(160, 14), np.arange(40)
    names = ["chgnet-0.2.0", "chgnet-0.3.0", "7net-0", "7net-l3i5"]
    x = rng.normal(size=(160, 8))
    sets = {name: Features(x[:, : 3 + i], *about) for i, name in enumerate([*names, "element"])}
    found = compare(sets, n_test=40, n_bootstrap=0, baselines=["element"])
    error = found.matrix()
    beside = {"one": [("element", "7net-0")], "none": [("absent", "7net-0")]}
    table = differences(found, natural_experiments(names), beside)
    table = table.set_index(["aspect", "level", "direction"])
    own = table.loc[("version", "SevenNet")]
    there, back = error.loc["7net-0", "7net-l3i5"], error.loc["7net-l3i5", "7net-0"]
    assert own["error"].to_dict() == {
        "between them": pytest.approx((there + back) / 2),
        "one": error.loc["element", "7net-0"],
    }
    # the other direction has another target, so it does not enter the ratio
    assert own.loc["one", "ratio"] == pytest.approx(back / error.loc["element", "7net-0"])
    assert "one" not in table.loc[("version", "CHGNet")].index
    assert differences(found, natural_experiments([]), beside).empty


NEQUIX = {
    "omat": {"trained_on": ["OMat24"]},
    "oam": {"trained_on": ["MPtrj", "sAlex"], "started_from": "omat"},
    "mp": {"trained_on": ["MPtrj"]},
    "mp-pft": {"trained_on": ["phonons"], "started_from": "mp", "objective": "Hessians"},
    "large": {"trained_on": ["MPtrj", "sAlex"], "architecture": "larger"},
}


@pytest.fixture
def nequix(monkeypatch):
    shared = {"family": "Nequix", "architecture": "Nequix", "functional": "PBE", "objective": "E"}
    entries = {name: {**shared, **entry} for name, entry in NEQUIX.items()}
    monkeypatch.setattr("umlip_latents.lineage.list_models", lambda: entries)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["omat", "oam", "mp"], [("omat", "oam", "mp")]),
        # neither a relation of the start nor a tuned model is a stranger
        (["mp", "mp-pft", "oam", "omat"], [("mp", "mp-pft", "omat"), ("omat", "oam", "mp")]),
        # the same architecture goes before more of the data
        (["omat", "oam", "large", "mp"], [("omat", "oam", "mp")]),
        (["omat", "oam", "large"], [("omat", "oam", "large")]),
        (["omat", "oam"], []),
        (["oam", "mp", "mine"], []),
    ],
)
def test_a_tuned_model_its_start_and_a_stranger(nequix, names, expected):
    assert fine_tunings(names) == expected
