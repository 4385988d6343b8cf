"""The claims of the papers: what the page and its figure show of them."""

from claims import BADGES, claims_tables, draw_claims

from umlip_latents.book import ROOT
from umlip_latents.resources import registry

CLAIMS = registry("claims")


def test_the_page_has_every_claim_once_with_its_verdict():
    parts = claims_tables(CLAIMS)
    page = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")
    assert sum(int(parts[word]) for word in BADGES) == len(CLAIMS)
    for name, claim in CLAIMS.items():
        assert parts[claim["section"]].count(f"(claim-{name})=") == 1
        assert f"{{{{ claims.{claim['section']} }}}}" in page


def test_a_claim_that_is_judged_names_its_chapter_and_none_is_judged_without_a_number():
    for name, claim in CLAIMS.items():
        assert ("paper" in claim) == ("here" in claim), name
        if claim["verdict"] != "not tested":
            assert "chapter" in claim, name
            assert any(character.isdigit() for character in claim["text"]), name
        else:
            assert "here" not in claim, name


def test_the_figure_has_a_row_for_each_claim_with_two_numbers():
    axis = draw_claims(CLAIMS).axes[0]
    both = [claim for claim in CLAIMS.values() if "here" in claim]
    assert len(axis.get_yticks()) == len(both)
    assert {line.get_xdata()[0] for line in axis.lines} >= {c["here"] for c in both}
