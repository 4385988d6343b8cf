"""The sentences about a run say what its result files hold."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk

from umlip_latents import captions, features_by_name
from umlip_latents.comparison import Comparison
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


def comparison(between: float, element: float, *models: str) -> Comparison:
    """Models with one error between them and one from the element, on 20 groups of atoms."""
    names = (*models, "element")
    errors = np.full((len(names), len(names)), between)
    errors[-1] = element
    scatter = np.random.default_rng(0).uniform(0.9, 1.1, (20, 1, 1))
    made = {"names": names, "metrics": ("gfre",), "by": "structure", "folds": "group"}
    made |= {"within_element": False, "baselines": ("element",), "seeds": (0,), "n_bootstrap": 50}
    made |= {"structures": np.arange(20), "dropped": {}, "left_out": {}, "n_train": [9]}
    counts = {"gfre": [np.ones(20)]}
    return Comparison(**made, n_test=[9], squares={"gfre": [errors**2 * scatter]}, counts=counts)


@pytest.mark.parametrize(
    ("between", "word"),
    [(0.2, "is the better source"), (0.9, "is the worse source"), (0.5, "cannot be told")],
)
def test_a_heat_map_is_read_beside_the_bare_element(between, word):
    text = captions.between_models(comparison(between, 0.5, "a", "b"))
    assert re.search(rf"mean GFRE of {between:.2f}.*leaves 0\.5.*{word}", text)
    assert captions.between_models(comparison(between, 0.5, "a")) == (
        "There is one model, a, and its baselines."
    )


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
