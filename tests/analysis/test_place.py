"""Where a model stands: known answers on the shipped panel."""

import re

import pytest

from umlip_latents import InputError, load_model, place
from umlip_latents.analysis.place import format_text, write_report


@pytest.fixture(scope="module")
def copy():
    """A fine-tuned checkpoint under another name, against its start."""
    model = load_model("chgnet-r2scan", device="cpu")
    model.name = "mine"
    return place(model, start="chgnet-0.3.0", n_splits=2, progress=False)


def test_a_copy_stands_at_its_original_and_then_next_to_its_start(copy):
    assert copy.table.index[:2].tolist() == ["chgnet-r2scan", "chgnet-0.3.0"]
    assert copy.table["distance"].iloc[0] < 5e-3  # the shipped one has half precision
    assert 0 < copy.table["distance"].iloc[1] < 0.3
    assert copy.retention["start"] == "chgnet-0.3.0"
    assert 0.5 < copy.retention["low"] < copy.retention["retention"] < copy.retention["high"] < 1


def test_an_untrained_twin_is_near_no_checkpoint():
    model = load_model("chgnet-untrained-s3", device="cpu")
    found = place(model, start="chgnet-untrained-s4", n_splits=1, progress=False)
    trained = found.table.drop(index=[*found.comparison.baselines])
    assert trained["distance"].drop("chgnet-untrained-s4").min() > 0.4
    kept = found.retention  # beside a start that is not published stands whoever is nearest
    assert kept["start"] == "chgnet-untrained-s4"
    assert kept["sibling"] in trained.index
    assert kept["retention"] == pytest.approx(1 - kept["gfre"] / kept["sibling_gfre"])


def test_every_row_is_whole_and_consistent(copy):
    table = copy.table
    varying = table.filter(regex="^(?!meV_to)").drop(index="element")  # constant within elements
    assert not varying.isna().any(axis=None)
    both = table[["gfre_to", "gfre_from"]].mean(axis=1)
    assert table["distance"].to_numpy() == pytest.approx(both)
    for direction in ("to", "from"):
        assert (table[f"gfre_{direction}_low"] <= table[f"gfre_{direction}_high"]).all()
    assert set(copy.properties.index) == {*table.index, "mine"}
    assert copy.properties.loc["element", "element_share"] == pytest.approx(1)


def test_energies_cost_less_from_a_copy_than_from_the_element(copy):
    cost, ready = copy.table["meV_from"], copy.table["meV_to"].dropna()
    assert cost["chgnet-r2scan"] < 0.5 * cost["element"] < 1000
    assert ready.index.str.startswith("nequix").all()  # whose last layer is the backbone


def test_the_report_is_one_page_that_needs_nothing(copy, tmp_path):
    write_report(copy, tmp_path / "place.html")
    page = (tmp_path / "place.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert not re.search(r"(src|href)=.?https?:", page)  # names of vocabularies are no addresses
    assert all(name in page for name in copy.table.index)
    assert "<script" not in page
    text = format_text(copy)
    assert "chgnet-r2scan" in text


def test_what_cannot_be_placed_says_why():
    with pytest.raises(InputError, match="mptrj-random-1k, backbone: no features ship"):
        place("element", "mptrj-random-1k")
    with pytest.raises(InputError, match="nobody: no such file or model"):
        place("element", start="nobody")
