"""The paper beside the book: numbers from the tables, verdicts from the numbers."""

import copy

import pytest
from claims import BADGES, UNTESTED, claims_page, judge

from umlip_latents.resources import InputError, registry

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


def test_every_claim_of_the_papers_has_its_evidence_and_a_reason_for_any_verdict():
    page = claims_page(CLAIMS)
    assert sum(int(page[word]) for word in BADGES) == len(CLAIMS)
    text = "".join(page[section] for section in {claim["section"] for claim in CLAIMS.values()})
    assert "nan" not in text
    for name, claim in CLAIMS.items():
        assert text.count(f"(claim-{name})=") == 1
        assert {*claim["why"]} == ({*BADGES} - {UNTESTED} if "here" in claim else {UNTESTED})


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
    ours = "**{:.2f} [{:.2f}, {:.2f}]** ours".format(*numbers)
    assert f"{ours}; **0.50 [0.45, 0.55]** the other" in page["one"]
    assert "**0.66 [0.26, 0.95]** the paper's map" in page["one"]


@pytest.mark.parametrize(
    "spec",
    [
        {"file": "03_table.csv", "query": "source == 'nobody'"},
        {"file": "03_nothing.csv", "query": "source == 'a'"},
        {"file": "03_words.json", "after": "the mean is not"},
    ],
)
def test_a_claim_without_evidence_is_refused_by_name(tmp_path, spec):
    (tmp_path / "03_table.csv").write_text(TABLE.format(0.3, "", 0.4))
    (tmp_path / "03_words.json").write_text('{"finding": "the mean is 0.30 [0.20, 0.40]"}')
    with pytest.raises(InputError, match="mine: no evidence in 03_"):
        judge("mine", changed(here={"ours": spec}, rule={"below": 1}), tmp_path)
