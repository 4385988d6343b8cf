"""What a user can do wrong: one clear sentence, a status other than 0, and nothing written."""

import re
import shlex

import pytest
from ase.io import write

import umlip_latents as ul
from umlip_latents.cli import main

PICKLE = "cos\nsystem\n(S'touch owned'\ntR."  # would run a command
FILES = {
    "text.xyz": "not a structure\nat all\n",
    "second.xyz": "1\n\nSi 0 0 0\n1\n\nSi 0 0 inf\n",
    "raises.py": "raise RuntimeError('mine')",
    "lacks.py": "",
    "measures.py": "def fails(x, y): raise ValueError('mine')\ndef words(x, y): return 'many'\n"
    "def nothing(x, y): return float('nan')\ndef gfre(x, y): return 0\n",
    "pickled.model": PICKLE,
    "evil.pth.tar": PICKLE,
    "words.json": "{not json",
    "few.csv": "structure,error\n0,1\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that is wrong, beside a little that is not."""
    folder = tmp_path_factory.mktemp("bad")
    structures = ul.load_structures("embedded")[::80]
    write(folder / "good.xyz", structures, format="extxyz")
    for name in ("element", "chgnet-untrained-s0"):
        ul.extract_features(structures, name, progress=False).save(folder / f"{name}.npz")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "folder.npz").mkdir()
    return folder


EXTRACT = "extract --model element --output o.npz --structures"
MODEL = "extract --structures good.xyz --output o.npz --model"
COMPARE = "compare element.npz chgnet-untrained-s0.npz"

# what is typed, and words of the message; misuse of the command line has status 2
MISUSE = {
    "dance": "dance",
    "verify --store x": "--store",
    "extract --model element --structures good.xyz": "--output, --store, or both",
    f"{EXTRACT} good.xyz --model soap": "one --model with --output",
    "compress gone.npz --output o.npz": "gone.npz",
    "compare": "Missing argument",
    f"{COMPARE} --bootstrap {10**12}": "--bootstrap",
    "train words.json": "--output",
    "book -p every=1": "--only",
    "book --profile ful": "'ful' is not one of 'default', 'full'",
}
# and what cannot be used has status 1
REFUSED = {
    f"{EXTRACT} gone.xyz": "gone.xyz: no such",
    f"{EXTRACT} embeded": "embeded: no such.*embedded",
    f"{EXTRACT} 'a\x1b[31mb.xyz'": r"a\?\[31mb.xyz: no such",
    f"{EXTRACT} good.xyz --layer lats": "lats: no such layer.*last",
    f"{EXTRACT} good.xyz --device gpu": "device gpu: PyTorch has no such device",
    f"{EXTRACT} good.xyz --store good.xyz/st": "good.xyz/st",
    f"{EXTRACT} good.xyz --store st --output o.txt": "must end in .npz",
    "extract --model element --structures good.xyz --output folder.npz": "folder.npz: is a folder",
    f"{EXTRACT} second.xyz": "structure 1.*not a finite number",
    f"{MODEL} nothing": "nothing: no such file or model",
    f"{MODEL} chgnet-0.3": r"chgnet-0.3: no such.*chgnet-0\.3\.0",
    f"{MODEL} pickled.model": "pickled.model.*--trust",
    f"{MODEL} evil.pth.tar --trust": "evil.pth.tar",
    f"{MODEL} raises.py:Model": "raises.py.*mine",
    f"{EXTRACT} text.xyz": "text.xyz",
    "compress words.json --output o.npz": "words.json",
    "compare element.npz element.npz": "Two sets of features are needed",
    f"{COMPARE} --metric best": "best: no such metric",
    f"{COMPARE} --metric gone.py:f": "gone.py: cannot be run .FileNotFoundError",
    f"{COMPARE} --metric raises.py:f": "raises.py: cannot be run .RuntimeError: mine",
    f"{COMPARE} --metric lacks.py:f": "lacks.py: has no function f",
    f"{COMPARE} --metric measures.py:fails": "fails: fails on two tables with ValueError .mine",
    f"{COMPARE} --metric measures.py:words": "words: fails on two tables with ValueError",
    f"{COMPARE} --metric measures.py:nothing": "nothing: a measure .* must return one finite",
    f"{COMPARE} --metric measures.py:gfre": "gfre: a measure of yours needs a __name__ of its own",
    f"{COMPARE} --n-test 1000000": "n_test 1000000",
    f"{COMPARE} --splits 0": "n_splits 0",
    f"{COMPARE} --figure heat.doc": "heat.doc: must end in",
    "novelty element.npz chgnet-untrained-s0.npz": "element|same model",
    "uncertainty element.npz element.npz": "either errors or structures",
    "uncertainty element.npz element.npz --errors words.json": "words.json: needs a structure and",
    "uncertainty element.npz element.npz --errors few.csv": "few.csv: structure 1 has no finite",
    "uncertainty element.npz element.npz --structures good.xyz": "element: no readout of it ships",
    "select element.npz --n 100000": "n 100000",
    "environments --remove ../environments/soap": "../environments/soap: no such environment",
    "book --only 99": "99: no such notebook",
    "book --only 03 -p every": "NAME=VALUE",
    "book --only 03 -p modls=[a]": "modls: no such parameter.*models",
    "book --only 03 -p models=gone.py:Model": "gone.py: no such file or model",
    "train words.json --output m.safetensors": "words.json",
}


def entries(folder):
    """Everything in a folder, with the time when it was last written."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def fails(folder, monkeypatch, capsys):
    """Run a command in the folder, which is to fail; what it says."""

    def fails(typed: str, status: int) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("UMLIP_LATENTS_OFFLINE", "1")
        before = entries(folder)
        assert main(shlex.split(typed)) == status
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Traceback" not in shown.err
        assert entries(folder) == before
        return shown.err

    return fails


@pytest.mark.parametrize("typed", MISUSE)
def test_misuse_of_the_command_line(fails, typed):
    assert re.search(MISUSE[typed], fails(typed, 2))


@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_used_is_named_in_one_sentence(fails, typed):
    *_, sentence = fails(typed, 1).splitlines()  # a progress bar may come before
    assert re.match(rf"umlip-latents: .*{REFUSED[typed]}", sentence)
    assert sentence.endswith((".", ")."))
    assert sentence.isprintable()
