"""What the catalogue says about how checkpoints are related."""

import numpy as np
import pytest

from umlip_latents import Features, compare
from umlip_latents.analysis.matched_pairs import differences, fine_tunings, matched_pairs
from umlip_latents.measures.compare import Split

CHGNET = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan")
SEVENNET = ("7net-0_22May2024", "7net-0", "7net-l3i5", "7net-mf-0-PBE", "7net-mf-0-R2SCAN")


def pair(source: str, target: str) -> tuple[str, str]:
    """What the table says of one pair."""
    table = matched_pairs([source, target])
    row = table[(table["source"] == source) & (table["target"] == target)].squeeze()
    return row["differs"], row["aspect"].partition(", ")[2]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("chgnet-0.3.0", "chgnet-r2scan", ("data and functional", "fine-tuned")),
        ("chgnet-r2scan", "chgnet-0.3.0", ("data and functional", "fine-tuned")),
        ("chgnet-0.2.0", "chgnet-0.3.0", ("architecture", "")),
        ("7net-0", "7net-l3i5", ("architecture", "")),
        ("7net-0_22May2024", "7net-0", ("data", "")),
        ("7net-mf-0-PBE", "7net-mf-0-R2SCAN", ("functional", "one network")),
        ("7net-0", "chgnet-0.3.0", ("architecture and objective", "")),
    ],
)
def test_what_sets_two_checkpoints_apart(source, target, expected):
    assert pair(source, target) == expected


def test_other_data_or_an_unknown_training_makes_no_pair():
    assert matched_pairs(["chgnet-r2scan", "7net-0"]).empty
    assert matched_pairs(["element", "chgnet-untrained-s0", "mine.py:Mine", "7net-0"]).empty


def test_each_difference_stands_beside_others_of_the_same_targets():
    """Three checkpoints on the same targets as two others: each number from the table of errors."""
    rng = np.random.default_rng(0)
    about = np.full(40, 4), np.full(160, 14), np.arange(40)
    names = ["chgnet-0.2.0", "chgnet-0.3.0", "7net-0", "7net-l3i5"]
    x = rng.normal(size=(160, 8))
    sets = {name: Features(x[:, : 3 + i], *about) for i, name in enumerate([*names, "element"])}
    found = compare(sets, split=Split(n_test=40), n_bootstrap=0, baselines=["element"])
    error = found.matrix()
    references = {"one": [("element", "7net-0")], "none": [("absent", "7net-0")]}
    table = differences(found, matched_pairs(names), references)
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
    assert differences(found, matched_pairs([]), references).empty


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
    monkeypatch.setattr("umlip_latents.analysis.matched_pairs.list_models", lambda: entries)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["omat", "oam", "mp"], [("omat", "oam", "mp")]),
        # neither a relation of the start nor a fine-tuned model is a sibling trained from scratch
        (["mp", "mp-pft", "oam", "omat"], [("mp", "mp-pft", "omat"), ("omat", "oam", "mp")]),
        # the same architecture goes before more of the data
        (["omat", "oam", "large", "mp"], [("omat", "oam", "mp")]),
        (["oam", "mp", "mine"], []),
    ],
)
def test_a_fine_tuned_model_its_start_and_a_sibling_trained_from_scratch(nequix, names, expected):
    assert fine_tunings(names) == expected
