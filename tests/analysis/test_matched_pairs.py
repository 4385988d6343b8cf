"""What the catalogue says about how checkpoints are related."""

import pytest

from umlip_latents.analysis.matched_pairs import fine_tunings, matched_pairs

CHGNET = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan")
SEVENNET = ("7net-0_22May2024", "7net-0", "7net-l3i5", "7net-mf-0-PBE", "7net-mf-0-R2SCAN")


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("chgnet-0.3.0", "chgnet-r2scan", "data and functional, fine-tuned"),
        ("chgnet-r2scan", "chgnet-0.3.0", "data and functional, fine-tuned"),
        ("chgnet-0.2.0", "chgnet-0.3.0", "version"),
        ("7net-0", "7net-l3i5", "version"),
        ("7net-0_22May2024", "7net-0", "data"),
        ("7net-mf-0-PBE", "7net-mf-0-R2SCAN", "functional, one network"),
        ("7net-0", "chgnet-0.3.0", "architecture and objective"),
    ],
)
def test_what_sets_two_checkpoints_apart(source, target, expected):
    aspects = matched_pairs([source, target]).set_index(["source", "target"])["aspect"]
    assert aspects[source, target] == expected


def test_other_data_or_an_unknown_training_makes_no_pair():
    assert matched_pairs(["chgnet-r2scan", "7net-0"]).empty
    assert matched_pairs(["element", "chgnet-untrained-s0", "mine.py:Mine", "7net-0"]).empty


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
