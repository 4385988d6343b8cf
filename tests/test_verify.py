"""`verify`: one byte changed in a file that ships or was downloaded, and it is named."""

import json
import runpy
import shutil

import pandas as pd
import pytest

from umlip_latents import verify
from umlip_latents.cli import main
from umlip_latents.resources import DATA, sha256

CHECKPOINT = "checkpoints/mini-mace-base-s0.safetensors"
TABLE = "reference-results/full/03_comparison-errors.csv"
MANIFEST = verify.MANIFEST


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the data, which `verify` looks at, and nothing downloaded beside it."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    monkeypatch.setattr(verify, "DATA", folder)
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path / "downloads"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_the_manifest_has_a_row_for_every_file_and_says_what_made_it():
    kept = pd.read_csv(MANIFEST, dtype=str, keep_default_na=False).set_index("file")
    made = runpy.run_path(str(MANIFEST.with_suffix(".py")))["rows"]().set_index("file")
    # of files that do not say it, the commit is known to a full clone alone
    pd.testing.assert_frame_equal(made.drop(columns="commit"), kept.drop(columns="commit"))
    assert kept["commit"].str.fullmatch("[0-9a-f]{10}").all()
    here = kept[~kept.index.str.contains("/full/")]  # long runs are of notebooks of their commit
    makers = {*here["made_by"]} - {"arXiv:2512.05717"}
    assert all((DATA.parent / made).is_file() for made in makers)
    assert kept["seeds"][CHECKPOINT] == "split 0, training 0"


def test_whatever_is_not_as_it_was_is_named(copy, tmp_path, capsys):
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith(f"right: {len(pd.read_csv(MANIFEST))}\nwrong: {{}}")
    download = tmp_path / "downloads" / "mptrj-random-1k.xyz"
    download.parent.mkdir()
    download.write_text("another")
    content = bytearray((copy / CHECKPOINT).read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    (copy / CHECKPOINT).write_bytes(content)
    (copy / TABLE).unlink()
    assert main(["verify", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    changed = {str(file): sha256(file) for file in (copy / CHECKPOINT, download)}
    assert found["wrong"] == changed | {str(copy / TABLE): ""}
    assert "alexandria-random-1k.xyz" in found["not_at_hand"]
    assert "mptrj-random-1k.xyz" not in found["not_at_hand"]
