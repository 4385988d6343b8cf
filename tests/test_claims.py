"""The paper beside the book: numbers from the tables, verdicts from the numbers."""

import copy
import re
from pathlib import Path

import nbformat
import pytest

from umlip_latents.claims import BADGES, OLD, UNTESTED, claims_page, judge
from umlip_latents.resources import InputError, registry
from umlip_latents.results import REFERENCE

ROOT = Path(__file__).parents[1]
CLAIMS = registry("claims")
TABLE = "source,target,error,low,high\na,b,{0},{1},{2}\nc,b,0.5,0.45,0.55\n"
CLAIM = {
    "section": "one",
    "short": "Short",
    "place": "Somewhere",
    "claim": "It is so.",
    "there": {"the paper's map": "study == 'umlips-mad-test' and metric == 'gfre'"},
    "here": {
        "ours": {"file": "03_table.csv", "query": "source == 'a'"},
        "the other": {"file": "03_table.csv", "query": "source == 'c'"},
    },
    "rule": {"below": "the other"},
    "why": {"agrees": "As there.", "differs": "Not as there.", "left open": "Who knows?"},
    "counterpart": "Nowhere.",
}


def changed(**entries) -> dict:
    """The claim with other entries."""
    return copy.deepcopy(CLAIM) | entries


def test_every_claim_of_the_papers_has_its_evidence():
    page = claims_page(CLAIMS)
    assert sum(int(page[word]) for word in BADGES) == len(CLAIMS)
    text = "".join(
        page[claim["section"]] for claim in {c["section"]: c for c in CLAIMS.values()}.values()
    )
    assert all(text.count(f"(claim-{name})=") == 1 for name in CLAIMS)
    assert int(page[UNTESTED]) == sum("here" not in claim for claim in CLAIMS.values())
    assert "nan" not in text


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_has_a_reason_for_whatever_the_numbers_say(name):
    claim = CLAIMS[name]
    reasons = {*BADGES} - {UNTESTED} if "here" in claim else {UNTESTED}
    assert {*claim["why"]} == reasons
    assert len({*claim["why"].values()}) == len(reasons)


def test_the_chapters_have_the_headings_that_claims_point_to():
    text = " ".join(claim["counterpart"] for claim in CLAIMS.values())
    named = {*re.findall(r"notebooks/(\w+)\.ipynb\), \*(.+?)\*", text)}
    assert len(named) > 15
    for name, heading in named:
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        assert any(f"## {heading}" in cell.source.splitlines() for cell in cells), (name, heading)


@pytest.mark.parametrize(
    ("numbers", "word", "why"),
    [
        ((0.3, 0.2, 0.4), "agrees", "As there."),
        ((0.7, 0.6, 0.8), "differs", "Not as there."),
        ((0.4, 0.3, 0.5), "left open", "Who knows?"),
    ],
)
def test_numbers_that_go_the_other_way_turn_the_verdict(tmp_path, numbers, word, why):
    (tmp_path / "03_table.csv").write_text(TABLE.format(*numbers))
    assert judge("mine", CLAIM, tmp_path)[0] == word
    above = {"agrees": "differs", "differs": "agrees"}.get(word, word)
    assert judge("mine", changed(rule={"above": "the other"}), tmp_path)[0] == above
    page = claims_page({"mine": CLAIM}, tmp_path)
    assert [page[name] for name in BADGES] == [str(int(name == word)) for name in BADGES]
    assert f"- **Why:** {why}" in page["one"]
    assert (
        "**{:.2f} [{:.2f}, {:.2f}]** ours; **0.50 [0.45, 0.55]** the other".format(*numbers)
        in page["one"]
    )
    assert "**0.66 [0.26, 0.95]** the paper's map" in page["one"]


def test_the_tables_of_the_run_turn_a_verdict_of_the_page(tmp_path):
    name = "tuning-bias"
    file = CLAIMS[name]["here"]["from nequix-mp-1, from scratch"]["file"]
    table = (REFERENCE / file).read_text()
    (tmp_path / file).write_text(table)
    assert judge(name, CLAIMS[name], tmp_path)[0] == "agrees"
    other = {"nequix-omat-1,nequix-oam-1": "nequix-mp-1,nequix-oam-1"}
    other |= {value: key for key, value in other.items()}
    swapped = re.sub("|".join(other), lambda found: other[found[0]], table)
    (tmp_path / file).write_text(swapped)
    assert judge(name, CLAIMS[name], tmp_path)[0] == "differs"


@pytest.mark.parametrize(
    "spec",
    [
        {"file": "03_table.csv", "query": "source == 'nobody'"},
        {"file": "03_nothing.csv", "query": "source == 'a'"},
        {"file": "03_table.csv", "query": "source == 'a'", "columns": ["low"]},
        {"file": "03_words.json", "after": "the mean is not"},
        {"file": "03_nothing.json", "after": "the mean is"},
    ],
)
def test_a_claim_without_evidence_is_refused_by_name(tmp_path, spec):
    (tmp_path / "03_table.csv").write_text(TABLE.format(0.3, "", 0.4))
    (tmp_path / "03_words.json").write_text('{"finding": "the mean is 0.30 [0.20, 0.40]"}')
    with pytest.raises(InputError, match="mine: no evidence in 03_"):
        judge("mine", changed(here={"ours": spec}, rule={"below": 1}), tmp_path)
    with pytest.raises(InputError, match="mine: no evidence"):
        judge("mine", changed(there={"the paper's map": "study == 'none'"}), tmp_path)


def test_a_number_is_quoted_or_averaged_with_its_interval_or_its_spread(tmp_path):
    (tmp_path / "10_table.csv").write_text(TABLE.format(0.3, 0.2, 0.4))
    (tmp_path / "03_words.json").write_text('{"finding": "the mean is 0.30 [-0.20, 0.40], so"}')
    everything = {"file": "10_table.csv", "query": "target == 'b'"}
    here = {
        "quoted": {"file": "03_words.json", "after": "the mean is"},
        "averaged": everything,
        "spread": everything | {"columns": ["error"]},
        "alone": everything | {"columns": ["error"], "query": "source == 'a'"},
    }
    word, text = judge("mine", changed(here=here, rule={"below": 0.45}), tmp_path)
    assert word == "agrees"
    told = "**0.30 [-0.20, 0.40]** quoted; **0.40 [0.33, 0.48]** averaged; "
    told += "**0.40 [0.30, 0.50]** spread; **0.30** alone. Results of the first edition.\n"
    assert told in text


def test_the_chapters_of_this_edition_are_those_that_the_tables_readme_names():
    text = (REFERENCE / "README.md").read_text(encoding="utf-8").partition("are of this edition")[0]
    named = {*re.findall(r"`(\d\d)_", text)}
    assert named == {file.name[:2] for file in REFERENCE.glob("*.json")} - {*OLD}
