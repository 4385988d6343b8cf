"""The sentences that notebooks write say what their tables hold."""

import json
import re

import pytest
from ase.build import bulk

import captions
from umlip_latents import features_by_name


def test_what_a_build_lacks_is_quoted_from_the_full_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "REFERENCE", tmp_path)
    made = {"profile": "full", "provenance": {"commit": "abc"}}
    made["findings"] = [{"question": "Is it so?", "finding": "by half"}]
    (tmp_path / "03_mine.json").write_text(json.dumps(made))
    text = captions.full_scale("03_mine", {"far": "far: no such file."})
    assert "lacks far." in text
    assert "profile full, commit abc" in text
    assert text.endswith("- **Is it so?** By half.")


@pytest.mark.parametrize("n_refused", [1, 5, 7])
def test_what_is_left_out_is_named_up_to_five_structures_and_one_reason_for_models(n_refused):
    cells = [bulk("Cu"), *(bulk("NaCl", "rocksalt", a=5.64) for _ in range(n_refused))]
    models = ["element", "nowhere", "nor-there"]
    features, missing = features_by_name(cells[:1], models, progress=False)
    features["element"].dropped = {i: f"reason {i}" for i in range(1, n_refused + 1)}
    text = captions.about("mine.xyz", cells, features, missing)
    named = re.findall(r"(\d) \(NaCl\): reason \1", text)
    assert named == [str(i) for i in range(1, min(n_refused, 5) + 1)]
    assert ("and 2 more" in text) == (n_refused == 7)
    assert "nowhere, nor-there; of the first: nowhere: no such file" in text
    assert text.count("no such file") == 1
