"""What a user can do wrong: one sentence, a status, nothing written, nothing computed in vain."""

import json
import os
import re
import shlex
import shutil
import signal
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import papermill
import pooch
import pytest
from ase import Atoms
from ase.io import write
from matplotlib.figure import Figure

import umlip_latents as ul
from umlip_latents import (
    book,
    comparing,
    environments,
    extraction,
    novelty,
    results,
    splits,
    training,
)
from umlip_latents.cli import main
from umlip_latents.features import save_npz
from umlip_latents.finetuning import fine_tune
from umlip_latents.models import chgnet, mace
from umlip_latents.resources import DATA, InputError

CELL = 'pbc="T T T" Lattice="{}"'
CUBE = CELL.format("4 0 0 0 4 0 0 0 4")

# name of a file, and what an extended XYZ file says that is wrong
STRUCTURES = {
    "empty": "",
    "blank": "\n\n\n",
    "text": "not a structure\nat all\n",
    "no-atoms": f"0\n{CUBE}\n",
    "short": f"3\n{CUBE}\nSi 0 0 0\n",
    "minus": f"-1\n{CUBE}\nSi 0 0 0\n",
    "million": f"{10**15}\n{CUBE}\nSi 0 0 0\n",
    "nan": f"1\n{CUBE}\nSi 0 0 nan\n",
    "infinite": f"1\n{CUBE}\nSi 0 0 inf\n",
    "words": f"1\n{CUBE}\nSi a b c\n",
    "dummy": f"1\n{CUBE}\nX 0 0 0\n",
    "stranger": f"1\n{CUBE}\nQq 0 0 0\n",
    "same-place": f"2\n{CUBE}\nSi 1 1 1\nSi 1 1 1\n",
    "image": f"2\n{CUBE}\nSi 0 0 0.01\nSi 0 0 3.99\n",
    "far": f"2\n{CUBE[10:]}\nSi 0 0 0\nSi 0 0 1e9\n".replace(CUBE[10:], 'pbc="F F F"'),
    "no-cell": f"1\n{CELL.format('0 0 0 0 1 0 0 0 1')}\nSi 0 0 0\n",
    "flat-cell": f"1\n{CELL.format('4 0 0 8 0 0 0 0 4')}\nSi 0 0 0\n",
    "thin-cell": f"1\n{CELL.format('1e-6 0 0 0 4 0 0 0 4')}\nSi 0 0 0\n",
    "nan-cell": f"1\n{CELL.format('nan 0 0 0 4 0 0 0 4')}\nSi 0 0 0\n",
    "huge-cell": f"1\n{CELL.format('1e300 0 0 0 4 0 0 0 4')}\nSi 0 0 0\n",
    "slab": '1\npbc="T T F" Lattice="4 0 0 8 0 0 0 0 9"\nSi 0 0 0\n',
    "second": f"1\n{CUBE}\nSi 0 0 0\n1\n{CUBE}\nSi 0 0 nan\n",
    "bad-lattice": '1\nLattice="1 2 3"\nSi 0 0 0\n',
}
STRUCTURE_WORDS = {
    "empty": "",
    "no-atoms": "structure 0|ASE cannot read|holds no",
    "nan": "structure 0.*not a finite number",
    "infinite": "structure 0.*not a finite number",
    "dummy": "structure 0.*unknown element",
    "same-place": "structure 0.*atoms 0 and 1",
    "image": "structure 0.*atoms 0 and 1",
    "far": "structure 0.*angstrom",
    "no-cell": "structure 0.*cell",
    "flat-cell": "structure 0.*cell",
    "thin-cell": "structure 0.*cell",
    "nan-cell": "structure 0.*cell",
    "huge-cell": "structure 0",
    "slab": "structure 0.*cell",
    "second": "structure 1.*not a finite number",
}
# what is changed in a file of features, None to leave it out
FEATURES = {
    "no-features": {"features": None},
    "no-kept": {"kept": None},
    "no-model": {"fingerprint": None},
    "nan": {"features": lambda x: x * np.nan},
    "text": {"features": lambda x: x.astype(str)},
    "pickled": {"features": lambda x: x.astype(object)},
    "complex": {"features": lambda x: x + 1j},
    "flat": {"features": np.ravel},
    "short": {"features": lambda x: x[:-1]},
    "negative-count": {"n_atoms": lambda n: -n},
    "fractions": {"n_atoms": lambda n: n / 2},
    "overflow": {"n_atoms": lambda n: np.where(n > 0, 2**62, n)},
    "unordered": {"kept": lambda k: k[::-1]},
    "negative-index": {"kept": lambda k: k - 5},
    "no-element": {"numbers": lambda z: 0 * z},
    "element-119": {"numbers": lambda z: z + 200},
    "no-rows": {"features": lambda x: x[:0], "n_atoms": lambda n: n[:0], "kept": lambda k: k[:0]},
}
# what is changed in a recipe, and what is said
RECIPES = {
    "misspelt": ({"held_outt": 3}, "held_out"),
    "negative": ({"held_out": -1}, "held_out"),
    "climbing": ({"name": "../../../x"}, "name"),
    "foreign": ({"mace": {"foundation_model": "evil.model"}}, "foundation_model"),
    "restart": ({"mace": {"restart_latest": True}}, "restart_latest"),
    "cutoff": ({"mace": {"r_max": -1}}, "r_max"),
    "nan": ({"mace": {"lr": float("nan")}}, "lr"),
    "epochs": ({"mace": {"max_num_epochs": 0}}, "max_num_epochs"),
    "itself": ({"extends": "itself.json"}, "itself"),
    "away": ({"extends": "../away.json"}, "extends"),
    "unlabelled": ({"datasets": ["good.xyz"], "group": "name", "training": {"good.xyz": 1}}, ""),
    "gone": ({"datasets": ["gone.xyz"], "training": {"gone.xyz": 1}}, "gone.xyz"),
    "few": ({"training": {"li3ps4-gfn1": 10**9}}, "li3ps4-gfn1 has"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder of everything that is wrong, beside a little that is not."""
    folder = tmp_path_factory.mktemp("bad")
    structures = ul.load_structures("embedded")[::80]
    write(folder / "good.xyz", structures, format="extxyz")
    for name in ("element", "mini-mace-mptrj"):
        ul.extract_features(structures, name, "last", progress=False).save(folder / f"{name}.npz")
    others = ul.extract_features(structures[::-1], "element", progress=False)
    others.save(folder / "reversed.npz")
    shutil.copy(folder / "element.npz", folder / "copy.npz")
    os.link(folder / "element.npz", folder / "hard.npz")
    (folder / "soft.npz").symlink_to("element.npz")
    for name, text in STRUCTURES.items():
        (folder / f"{name}.xyz").write_text(text)
    (folder / "bytes.xyz").write_bytes(bytes(range(256)) * 20)
    (folder / "latin.xyz").write_bytes("1\né=ü\nSi 0 0 0 \xff".encode("latin-1"))
    with np.load(folder / "element.npz") as file:
        good = dict(file)
    for name, changes in FEATURES.items():
        arrays = {k: changes[k](x) if changes.get(k) else x for k, x in good.items()}
        kept = {k: x for k, x in arrays.items() if changes.get(k, True) is not None}
        np.savez(folder / f"bad-{name}.npz", **kept)
    np.savez(folder / "bad-empty-zip.npz")
    (folder / "bad-nothing.npz").touch()
    (folder / "bad-words.npz").write_text("features")
    np.save(folder / "array.npy", good["features"])
    (folder / "array.npy").rename(folder / "bad-array.npz")
    whole = (folder / "element.npz").read_bytes()
    (folder / "bad-cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "bad-torn.npz").write_bytes(whole[:200] + bytes(400) + whole[600:])
    with zipfile.ZipFile(folder / "bad-bomb.npz", "w", zipfile.ZIP_DEFLATED) as bomb:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        bomb.writestr("features.npy", start + bytes(1 << 20))
        for name in ("n_atoms", "numbers", "kept"):
            bomb.writestr(f"{name}.npy", start)
    (folder / "folder").mkdir()
    (folder / "folder" / "inside").write_text("inside")
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    for ending in ("npz", "xyz", "svg", "json", "safetensors", "model"):
        os.mkfifo(folder / f"pipe.{ending}")
        (folder / f"loop.{ending}").symlink_to(f"loop.{ending}")
        (folder / f"folder.{ending}").mkdir()
        (folder / f"link.{ending}").symlink_to(folder / "folder" / "inside")
    make_recipes(folder)
    make_models(folder)
    return folder


def make_recipes(folder):
    base = training.read_recipe(DATA / "recipes" / "mini-mace-base-s0.json")
    base |= {"datasets": ["li3ps4-gfn1"], "group": "origin", "held_out": 3, "validation": 2}
    base["training"] = {"li3ps4-gfn1": 5}
    for name, (changes, _) in RECIPES.items():
        mace_part = base["mace"] | changes.get("mace", {})
        (folder / f"{name}.json").write_text(json.dumps(base | changes | {"mace": mace_part}))
    (folder / "good.json").write_text(json.dumps(base))
    (folder / "mine.json").write_text(json.dumps(base))
    (folder / "list.json").write_text("[]")
    (folder / "words.json").write_text("{not json")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "latin.json").write_bytes(b'{"name": "\xff"}')
    (folder / "huge.json").write_text('{"name": 1e400}')


def make_models(folder):
    source = DATA / "checkpoints" / "mini-mace-data-triple-s0.safetensors"
    card = json.loads(source.with_suffix(".json").read_text())
    weights = source.read_bytes()
    cards = {
        "no-card": None,
        "list-card": [],
        "null-card": dict.fromkeys(card),
        "no-architecture": {k: v for k, v in card.items() if k != "architecture"},
        "wrong-digest": card | {"sha256": "0" * 64},
        "other-architecture": card | {"architecture": card["architecture"] | {"r_max": "x"}},
    }
    for name, text in cards.items():
        (folder / f"{name}.safetensors").write_bytes(weights)
        if text is not None:
            (folder / f"{name}.json").write_text(json.dumps(text))
    (folder / "flipped.safetensors").write_bytes(weights[:-9] + b"\xff" * 9)
    (folder / "cut.safetensors").write_bytes(weights[: len(weights) // 2])
    (folder / "words.safetensors").write_text("weights")
    for name in ("flipped", "cut"):
        (folder / f"{name}.json").write_text(json.dumps(card))
    (folder / "pickled.model").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    (folder / "words.model").write_text("not a pickle")
    with tarfile.open(folder / "empty.pth.tar", "w"):
        pass
    (folder / "evil.pth.tar").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    (folder / "raises.py").write_text("raise RuntimeError('mine')")
    (folder / "syntax.py").write_text("def (")
    (folder / "lacks.py").write_text("class Model:\n    name = 'x'\n")
    (folder / "none.py").write_text("Model = None\n")


EXTRACT = "extract --model element --output o.npz --structures"
MODEL = "extract --structures good.xyz --output o.npz --trust --model"
COMPARE = "compare element.npz mini-mace-mptrj.npz"
LONG = "x" * 300

# what is typed, and words of what is said; by status
MISUSE = {
    "dance": "dance",
    "": "Usage|Commands",
    "--frobnicate": "frobnicate",
    "extract": "Missing option",
    "extract --model element": "Missing option",
    "models extra": "unexpected",
    "models --jsn": "--jsn",
    "compress element.npz": "--output",
    "compress element.npz --output o.npz --order 0": "--order",
    "compress element.npz --output o.npz --order 9": "--order",
    "compress element.npz --output o.npz --order -1": "--order",
    "compress element.npz --output o.npz --order 2.5": "--order",
    "compress element.npz --output o.npz --order nan": "--order",
    "compress element.npz --output o.npz --order 1e400": "--order",
    f"compress element.npz --output o.npz --order {10**30}": "--order",
    "compress element.npz element.npz --output o.npz": "unexpected",
    f"{COMPARE} --metric best": "best",
    f"{COMPARE} --metric GFRE": "GFRE",
    f"{COMPARE} --metric ''": "--metric",
    f"{COMPARE} --split molecule": "molecule",
    f"{COMPARE} --folds both": "both",
    f"{COMPARE} --splits 0": "--splits",
    f"{COMPARE} --splits -3": "--splits",
    f"{COMPARE} --splits {10**18}": "--splits",
    f"{COMPARE} --bootstrap -1": "--bootstrap",
    f"{COMPARE} --bootstrap {10**12}": "--bootstrap",
    f"{COMPARE} --n-test 0": "--n-test",
    f"{COMPARE} --n-test -5": "--n-test",
    f"{COMPARE} --n-test many": "--n-test",
    f"{COMPARE} --seed -1": "--seed",
    f"{COMPARE} --seed {10**23}": "--seed",
    f"{COMPARE} --seed 0x10": "--seed",
    "novelty element.npz": "Missing argument",
    "novelty element.npz element.npz --tolerance -1": "--tolerance",
    "novelty element.npz element.npz --tolerance near": "--tolerance",
    "select element.npz --n 0": "--n",
    "select element.npz --n -1": "--n",
    "select element.npz --n all": "--n",
    f"{EXTRACT} good.xyz --store good.xyz": "--store",
    f"{EXTRACT} good.xyz --workers 0": "--workers",
    f"{EXTRACT} good.xyz --workers all": "--workers",
    f"{EXTRACT} good.xyz --workers {10**9}": "--workers",
    "environments --make soap --remove soap": "exclude each other",
    "environments soap": "unexpected",
    "book -p every=1": "--only",
    "book --only 03 -p every": "NAME=VALUE",
    "book --only 03 -p 'every=[1'": "NAME=VALUE",
    "book --only 03 -p 'every=!!python/object/apply:os.system [touch owned]'": "NAME=VALUE",
    "book --only 03 -p 'every=&a [*a]'": "NAME=VALUE",
    "book --output good.xyz": "--output",
    "train": "Missing argument",
    "train good.json": "--output",
}
REFUSED = {
    f"{EXTRACT} gone.xyz": "gone.xyz: no such",
    f"{EXTRACT} embeded": "embeded: no such.*embedded",
    f"{EXTRACT} ''": "no such|folder",
    f"{EXTRACT} .": "no such|folder",
    f"{EXTRACT} folder.xyz": "folder.xyz",
    f"{EXTRACT} pipe.xyz": "pipe.xyz",
    f"{EXTRACT} loop.xyz": "loop.xyz",
    f"{EXTRACT} /dev/null": "/dev/null",
    f"{EXTRACT} /dev/zero": "/dev/zero",
    f"{EXTRACT} /proc/self/environ": "/proc/self/environ",
    f"{EXTRACT} {LONG}": "xxx",
    f"{EXTRACT} 'a\nb.xyz'": "a b.xyz: no such",
    f"{EXTRACT} 'a\x1b[31mb.xyz'": r"a\\x1b\[31mb.xyz: no such",
    f"{EXTRACT} 'ünïcödé ☃.xyz'": "ünïcödé ☃.xyz: no such",
    f"{EXTRACT} good.xyz --store pipe": "pipe",
    f"{EXTRACT} good.xyz --store good.xyz/st": "good.xyz/st",
    f"{EXTRACT} good.xyz --store loop": "loop",
    f"{EXTRACT} good.xyz --store /proc/st": "/proc/st",
    f"{EXTRACT} bytes.xyz": "bytes.xyz",
    f"{EXTRACT} latin.xyz": "latin.xyz",
    f"{EXTRACT} element.npz": "element.npz",
    f"{EXTRACT} good.json": "good.json",
    f"{EXTRACT} good.xyz --layer lats": "lats: no such layer.*last",
    f"{EXTRACT} good.xyz --layer ''": "no such layer",
    f"{EXTRACT} good.xyz --layer ../last": "no such layer",
    f"{MODEL} nothing": "nothing: no such file or model",
    f"{MODEL} chgnet-0.3": r"chgnet-0.3: no such.*chgnet-0\.3\.0",
    f"{MODEL} ''": "no such",
    f"{MODEL} {LONG}": "xxx",
    f"{MODEL} chgnet-untrained-s12345678901234567890123": "no such",
    f"{MODEL} chgnet-untrained-s-1": "no such",
    f"{MODEL} chgnet-untrained-s٣": "no such",
    f"{MODEL} good.xyz": "ends in",
    f"{MODEL} folder.model": "folder.model",
    f"{MODEL} pipe.model": "pipe.model",
    f"{MODEL} loop.model": "loop.model",
    f"{MODEL} no-card.safetensors": "no-card",
    f"{MODEL} list-card.safetensors": "list-card",
    f"{MODEL} null-card.safetensors": "null-card",
    f"{MODEL} no-architecture.safetensors": "no-architecture",
    f"{MODEL} wrong-digest.safetensors": "SHA-256",
    f"{MODEL} other-architecture.safetensors": "other-architecture",
    f"{MODEL} flipped.safetensors": "flipped",
    f"{MODEL} cut.safetensors": "cut",
    f"{MODEL} words.safetensors": "words",
    f"{MODEL} words.model": "words.model",
    f"{MODEL.replace(' --trust', '')} pickled.model": "--trust",
    f"{MODEL} empty.pth.tar": "empty.pth.tar",
    f"{MODEL} evil.pth.tar": "evil.pth.tar",
    f"{MODEL} gone.py:Model": "gone.py",
    f"{MODEL} raises.py:Model": "raises.py.*mine",
    f"{MODEL} syntax.py:Model": "syntax.py",
    f"{MODEL} lacks.py:Model": "lacks",
    f"{MODEL} lacks.py:Other": "Other",
    f"{MODEL} none.py:Model": "none.py",
    f"{COMPARE} bad-nan.npz": "bad-nan.npz",
    f"{COMPARE} gone.npz": "gone.npz: cannot be read .No such file",
    f"{COMPARE} folder.npz": "folder.npz",
    f"{COMPARE} reversed.npz": "same structures",
    f"{COMPARE} --n-test 1000000": "n_test 1000000",
    f"{COMPARE} --metric gfre --metric gfre": "once",
    f"{COMPARE} --structures good.xyz": "--model|--structures",
    f"{COMPARE} --store st": "--model",
    f"{COMPARE} --trust": "--model",
    f"{COMPARE} --model element": "--structures",
    f"{COMPARE} --model element --model element --structures good.xyz": "one and the same",
    f"{COMPARE} --figure heat": "heat: must end in",
    f"{COMPARE} --figure heat.doc": "heat.doc: must end in",
    f"{COMPARE} --figure folder.svg": "folder.svg",
    f"{COMPARE} --figure gone/heat.svg": "gone",
    f"{COMPARE} --figure pipe.svg": "pipe.svg",
    f"{COMPARE} --figure link.svg": "link.svg",
    "compare": "at least two",
    "compare element.npz": "at least two",
    "compare element.npz element.npz": "one and the same",
    "compare element.npz ./element.npz": "one and the same",
    "compare element.npz copy.npz": "element.npz and copy.npz: are one and the same",
    "compare element.npz hard.npz": "one and the same",
    "compare element.npz soft.npz": "one and the same",
    "compare --model element --structures good.xyz": "at least two",
    "novelty element.npz mini-mace-mptrj.npz": "cannot be compared|same model",
    "novelty gone.npz element.npz": "gone.npz",
    "novelty element.npz reversed.npz --tolerance nan": "tolerance nan",
    "novelty element.npz reversed.npz --tolerance inf": "tolerance inf",
    "novelty element.npz bad-cut.npz": "bad-cut.npz",
    "select element.npz --n 100000": "n 100000",
    f"select element.npz --n {10**30}": "n 1000000",
    "select bad-array.npz": "bad-array.npz",
    "select folder": "folder",
    "environments --make ../environments/soap": "../environments/soap: no such environment",
    "environments --remove ../environments/soap": "../environments/soap: no such environment",
    "environments --remove sevenet": "sevenet: no such environment .sevennet",
    "environments --remove ''": "no such environment",
    "environments --remove /": "no such environment",
    "book --profile ../x": "../x: no such profile",
    "book --profile qick": "qick: no such profile .quick",
    "book --profile ''": "no such profile",
    "book --profile ../../_config": "no such profile",
    "book --only 99": "99: no such notebook",
    "book --only ''": "no such notebook",
    "book --only ../x": "no such notebook",
    "book --only 03 --profile ../x": "no such profile",
    "book --only 03 -p modls=[a]": "modls: no such parameter.*models",
    "book --only 03 -p =1": "no such parameter",
    "train gone.json --output m.safetensors": "gone.json",
    "train folder.json --output m.safetensors": "folder.json",
    "train list.json --output m.safetensors": "list.json",
    "train words.json --output m.safetensors": "words.json",
    "train deep.json --output m.safetensors": "deep.json",
    "train latin.json --output m.safetensors": "latin.json",
    "train huge.json --output m.safetensors": "huge.json",
    "train /dev/zero --output m.safetensors": "/dev/zero",
    "train good.json --output m.json": "must end in .safetensors",
    "train good.json --output good.json": "must end in .safetensors",
    "train mine.json --output mine.safetensors": "mine",
    "train good.json --output folder.safetensors": "folder.safetensors",
    "train good.json --output gone/m.safetensors": "gone",
    "train good.json --output cut.safetensors": "cut.safetensors",
    **{
        f"{EXTRACT} {name}.xyz": STRUCTURE_WORDS.get(name, "") or f"{name}.xyz"
        for name in STRUCTURES
    },
    **{f"compress bad-{name}.npz --output o.npz": f"bad-{name}.npz" for name in FEATURES},
    **{
        f"compress bad-{name}.npz --output o.npz": f"bad-{name}.npz"
        for name in ("empty-zip", "nothing", "words", "array", "cut", "torn", "bomb")
    },
    **{
        f"compress {name} --output o.npz": name
        for name in ("gone.npz", "folder", "pipe", "loop", "/dev/zero", "/proc/kmsg", "good.xyz")
    },
    **{
        f"{command} --output {output}": words
        for output, words in {
            ".": "end in",
            "o": "end in",
            "o.txt": "end in",
            "/dev/null": "end in",
            "folder.npz": "folder.npz: is a folder",
            "link.npz": "link.npz: is a folder, a link",
            "loop.npz": "loop.npz: is a folder, a link",
            "pipe.npz": "pipe.npz: is a folder, a link",
            "gone/o.npz": "there is no folder gone",
            "element.npz/o.npz": "there is no folder",
            "/proc/o.npz": "/proc/o.npz: cannot be written",
            f"{LONG}.npz": "cannot be written .File name too long",
        }.items()
        for command in ("extract --model element --structures good.xyz", "compress element.npz")
    },
    "compress element.npz --output element.npz": "is read, and cannot be written over",
    "compress element.npz --output ./folder/../element.npz": "cannot be written over",
    "compress element.npz --output hard.npz": "is read, and cannot be written over",
    "extract --model element --structures element.npz --output element.npz": "written over",
    **{f"train {name}.json --output m.safetensors": why for name, (_, why) in RECIPES.items()},
}


def small(**changes):
    """Features of one model on six structures of two atoms."""
    n = {"features": np.random.default_rng(0).normal(size=(12, 3)), "n_atoms": np.full(6, 2)}
    whole = {**n, "numbers": np.full(12, 14), "kept": np.arange(6), **changes}
    return ul.Features(**whole)


SILICON = Atoms("Si2", [(0, 0, 0), (0, 0, 2.3)])
X = np.random.default_rng(0).normal(size=(12, 3))
EACH = np.full(6, 2)


def pair(**options):
    return ul.compare({"a": small(), "b": small(features=X**2)}, **options)


def fine_tuned(**options):
    told = {"cache": "cache", "epochs": 1, "protocol": "bespoke"} | options
    return fine_tune(ul.load_model("chgnet-0.3.0"), [SILICON], [SILICON], **told)


PYTHON = {
    "load_structures of nothing": (lambda: ul.load_structures("gone.xyz"), "no such"),
    "load_structures of a folder": (lambda: ul.load_structures(Path()), "no such"),
    "load_structures of a null": (lambda: ul.load_structures("a\0b"), "no such"),
    "load_structures of a long name": (lambda: ul.load_structures(LONG), "xxx"),
    "load_model of nothing": (lambda: ul.load_model("gone"), "gone: no such"),
    "load_model of a long name": (lambda: ul.load_model(LONG), "xxx"),
    "load_model of a null": (lambda: ul.load_model("a\0b"), "no such"),
    "extract from no structures": (lambda: ul.extract_features([], "element"), "there is none"),
    "extract an unknown layer": (lambda: ul.extract_features([SILICON], "element", "x"), "layer"),
    "extract from NaN": (
        lambda: ul.extract_features([Atoms("Si", [(0, 0, np.nan)])], "element"),
        "not a finite number",
    ),
    "extract from one place": (
        lambda: ul.extract_features([SILICON, Atoms("Si2")], "chgnet-0.3.0"),
        "structure 1: atoms 0 and 1",
    ),
    "extract from no atoms": (lambda: ul.extract_features([Atoms()], "element"), "no atoms"),
    "extract from element 0": (lambda: ul.extract_features([Atoms("X")], "element"), "element"),
    "extract into a file": (
        lambda: ul.extract_features([SILICON], "element", store="good.xyz"),
        "good.xyz",
    ),
    "extract by nobody": (
        lambda: ul.extract_features([SILICON], "element", workers=0),
        "workers 0: must be a whole number from 1 on",
    ),
    "extract by no model": (lambda: ul.extract_features([SILICON], "gone"), "gone: no such"),
    "features of no model at all": (
        lambda: ul.features_by_name([SILICON], ["gone", "lost"]),
        "There are no features",
    ),
    "load a folder": (lambda: ul.Features.load("folder"), "folder"),
    "load structures as features": (lambda: ul.Features.load("good.xyz"), "good.xyz"),
    "save into a folder": (lambda: small().save("folder"), "folder: is a folder"),
    "save through a link": (lambda: small().save("link.npz"), "link.npz: is a folder, a link"),
    "save into no folder": (lambda: small().save("gone/a.npz"), "gone"),
    "save over a device": (lambda: save_npz("/dev/null", x=X), "/dev/null"),
    "order 0": (lambda: ul.cumulant_features(X, EACH, 0), "order 0"),
    "order 9": (lambda: ul.cumulant_features(X, EACH, 9), "order 9"),
    "order 2.5": (lambda: ul.cumulant_features(X, EACH, 2.5), "order 2.5"),
    "order NaN": (lambda: ul.cumulant_features(X, EACH, np.nan), "order nan"),
    "counts that do not add up": (lambda: ul.cumulant_features(X, EACH + 1, 2), "add up"),
    "counts below nothing": (lambda: ul.cumulant_features(X, -EACH, 2), "positive"),
    "compare one": (lambda: ul.compare({"a": small()}), "at least two"),
    "compare none": (lambda: ul.compare({}), "at least two"),
    "compare by an unknown metric": (lambda: pair(metrics=["gfer"]), "gfer: no such metric .gfre"),
    "compare by no metric": (lambda: pair(metrics=[]), "one at least"),
    "compare by a metric twice": (lambda: pair(metrics=["cka", "cka"]), "each once"),
    "compare by an unknown split": (lambda: pair(by="molecule"), "molecule"),
    "compare by unknown folds": (lambda: pair(folds="both"), "both"),
    "compare with a seed below 0": (lambda: pair(seed=-1), "seed -1"),
    "compare with half a seed": (lambda: pair(seed=0.5), "seed 0.5"),
    "compare without a split": (lambda: pair(n_splits=0), "n_splits 0"),
    "compare with NaN splits": (lambda: pair(n_splits=np.nan), "n_splits nan"),
    "compare with fewer resamples than none": (lambda: pair(n_bootstrap=-1), "n_bootstrap -1"),
    "compare without test atoms": (lambda: pair(n_test=0), "n_test 0"),
    "compare on too many test atoms": (lambda: pair(n_test=10**9), "n_test 10000"),
    "compare on a test atom and a half": (lambda: pair(n_test=1.5), "n_test 1.5"),
    "compare with a share above 1": (lambda: pair(train_share=1.5), "train_share"),
    "compare with a share of NaN": (lambda: pair(train_share=np.nan), "train_share"),
    "compare with too few groups": (lambda: pair(groups=["a"]), "groups"),
    "compare other structures": (
        lambda: ul.compare({"a": small(), "b": small(numbers=np.full(12, 6))}),
        "same structures",
    ),
    "compare what does not vary": (
        lambda: ul.compare({"a": small(), "b": small(features=0 * X)}),
        "b",
    ),
    "novelty against too few": (
        lambda: novelty.novelty(small().select(np.arange(3)), small()),
        "fewer",
    ),
    "duplicates within NaN": (
        lambda: novelty.near_duplicates(small(), tolerance=np.nan),
        "tolerance nan",
    ),
    "duplicates within less than 0": (
        lambda: novelty.near_duplicates(small(), tolerance=-1),
        "tolerance -1",
    ),
    "select none": (lambda: novelty.farthest_points(small(), 0), "n 0"),
    "select more than there are": (lambda: novelty.farthest_points(small(), 7), "n 7"),
    "split by molecule": (lambda: splits.split_atoms(EACH, 2, by="molecule"), "molecule"),
    "split off all": (lambda: splits.split_atoms(EACH, 12), "n_test 12"),
    "split off NaN": (lambda: splits.split_atoms(EACH, np.nan), "n_test nan"),
    "split with a seed below 0": (lambda: splits.split_atoms(EACH, 2, seed=-1), "seed -1"),
    "an unknown profile": (lambda: book.load_profile("../profiles/quick"), "no such profile"),
    "an unknown environment": (
        lambda: environments.environment_folder("../environments/soap"),
        "no such environment",
    ),
    "an unknown protocol": (
        lambda: fine_tuned(protocol="full fine tuning"),
        "no such protocol .full fine-tuning",
    ),
    "no epoch": (lambda: fine_tuned(epochs=0), "epoch"),
    "structures without labels": (fine_tuned, "no energy and forces"),
    "a figure without a format": (
        lambda: results.save_figure(Figure(), Path("heat")),
        "heat: its ending",
    ),
    "a figure in an unknown format": (
        lambda: results.save_figure(Figure(), Path("heat.xyz")),
        "heat.xyz: its ending",
    ),
    "results into a file": (
        lambda: results.save_results("good.xyz", "01_x", []),
        "good.xyz: the folder cannot be made",
    ),
}


@pytest.fixture
def watched(house, monkeypatch):
    """The folder as the present one, and whatever is heavy or reaches outside forbidden in it."""

    def forbid(owner, name):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail(f"{name} was called"))

    monkeypatch.chdir(house)
    monkeypatch.setenv("XDG_CACHE_HOME", str(house / "cache"))
    for owner, name in (
        (extraction, "extract_block"),
        (comparing, "pointwise_errors"),
        (comparing, "on_halves"),
        (novelty, "novelty_scores"),
        (mace, "trained"),
        (chgnet.ChgnetModel, "train_on"),
        (environments, "install"),
        (environments.venv, "create"),
        (papermill, "execute_notebook"),
        (pooch, "HTTPDownloader"),
        (book, "fetch_checkpoints"),
        (os, "system"),
    ):
        forbid(owner, name)

    def hangs(*_):
        raise TimeoutError("it hangs")

    signal.signal(signal.SIGALRM, hangs)
    before = tree(house)
    signal.alarm(30)
    yield house
    signal.alarm(0)
    assert tree(house) == before


def tree(folder):
    """Every entry of a folder, and what would change if it were touched."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        about = None if path.is_dir() and not path.is_symlink() else state.st_mtime_ns
        found[path] = (state.st_mode, about, about and (state.st_size, state.st_ino))
    return found


def check(capsys, argv, status, words):
    """One clear sentence and nothing else, but how the command is used where it is misused."""
    assert main(argv) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert "it hangs" not in shown.err
    if status == 1:
        (sentence,) = shown.err.splitlines()
        assert sentence.startswith("umlip-latents: ")
        assert sentence.endswith((".", ")."))
        assert len(sentence) < 1100
        assert sentence.isprintable()
    assert re.search(words, shown.err), shown.err


@pytest.mark.parametrize("typed", MISUSE)
def test_misuse_of_the_command_line(watched, capsys, typed):
    check(capsys, shlex.split(typed), 2, MISUSE[typed])


@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_used(watched, capsys, typed):
    check(capsys, shlex.split(typed), 1, REFUSED[typed])


@pytest.mark.parametrize("mistake", PYTHON)
def test_mistakes_in_python(watched, mistake):
    call, words = PYTHON[mistake]
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert str(caught.value).endswith(".")


def test_the_table_is_long():
    assert len(MISUSE) + len(REFUSED) + len(PYTHON) >= 250
