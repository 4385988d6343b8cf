"""The sentences about a run say what its result files hold."""

import json

from ase.build import bulk

from umlip_latents import captions, features_by_name


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
