"""The sentences about a run say what its result files hold."""

import json
import re

import pandas as pd
import pytest
from ase.build import bulk

from umlip_latents import captions, features_by_name
from umlip_latents.comparison import Estimate
from umlip_latents.figures import lines


def test_what_a_build_lacks_is_told_from_full_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "REFERENCE", tmp_path)
    assert captions.full_scale("03_mine", {"far": "far: no such file."}) == ""
    finding = {"question": "Is it so?", "finding": "by half"}
    made = {"profile": "full", "provenance": {"commit": "abc"}, "findings": [finding]}
    (tmp_path / "03_mine.json").write_text(json.dumps(made))
    text = captions.full_scale("03_mine", {"far": "far: no such file."})
    assert "lacks far." in text
    assert "profile full, commit abc" in text
    assert text.endswith("- **Is it so?** By half.")
    assert captions.full_scale("03_mine", {}) == ""


def test_what_is_missing_is_named_and_one_reason_given():
    cells = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)]
    features, missing = features_by_name(cells, ["element", "nowhere", "nor-there"], progress=False)
    text = captions.about("mine.xyz", cells, features, missing)
    assert "nowhere, nor-there; of the first: nowhere: no such file" in text
    assert text.count("no such file") == 1


@pytest.mark.parametrize(
    ("low", "high", "word"), [(1.1, 1.4, "more"), (0.6, 0.9, "less"), (0.9, 1.2, "not to be told")]
)
def test_ratios_are_sorted_by_what_can_be_said_of_them(low, high, word):
    ratios = {"data": Estimate((low + high) / 2, low, high), "loss": Estimate(3, 2, 4)}
    told = captions.sorted_out(ratios, "more", "less", "not to be told")
    assert dict(part.split(": ") for part in told.split("; ")).keys() == {"more", word}
    assert re.search(rf"{word}: data \S+ \[{low:.2f}, {high:.2f}\]", told)


@pytest.mark.parametrize(("y", "n"), [(0.5, 3), (0.1, 0)])
def test_points_are_counted_on_the_side_where_they_lie(y, n):
    told = captions.above_line(pd.Series([0.2, 0.2, 0.25]), pd.Series([y] * 3))
    assert told == f"{n} of 3 above the line, at the median {y / 0.2:.2f} times as large"


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [(0.5, 0.2, "falls for a"), (0.2, 0.5, "rises for a"), (0.5, 0.5, "does not change for a")],
)
def test_a_line_is_said_to_go_where_it_goes(first, last, text):
    table = pd.DataFrame({"n": [1, 2, 3], "error": [first, 9, last], "model": "a"})
    assert captions.trend(table, "n", "error", "model") == f"{text} ({first:.2f} to {last:.2f})"


def test_a_figure_tells_those_who_cannot_see_it_what_is_seen(monkeypatch):
    shown = []
    monkeypatch.setattr(captions, "display", lambda html: shown.append(html.data))
    table = pd.DataFrame({"n": [1, 2], "error": [0.5, 0.2], "model": "a"})
    figure = lines(table, "n", "error", "model", xlabel="order n", ylabel="GFRE")
    captions.show(figure, 'It falls for <a> & "b".', "The dashed line is the floor.")
    (html,) = shown
    assert 'alt="GFRE against order n. It falls for &lt;a&gt; &amp; &quot;b&quot;."' in html
    assert "<strong>It falls for &lt;a&gt; &amp; &quot;b&quot;.</strong> The dashed" in html
    assert 'src="data:image/png;base64,iVBOR' in html


@pytest.mark.parametrize("n_refused", [1, 5, 7])
def test_structures_that_are_left_out_are_named_up_to_five(n_refused):
    cells = [bulk("Cu"), *(bulk("NaCl", "rocksalt", a=5.64) for _ in range(n_refused))]
    features, _ = features_by_name(cells[:1], ["element"], progress=False)
    features["element"].dropped = {i: f"reason {i}" for i in range(1, n_refused + 1)}
    said = captions.about("mine.xyz", cells, features, {})
    named = re.findall(r"(\d) \(NaCl\): reason \1", said)
    assert named == [str(i) for i in range(1, min(n_refused, 5) + 1)]
    assert ("and 2 more" in said) == (n_refused == 7)
