"""The sentences about a run say what its result files hold."""

import json

from umlip_latents import captions


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
