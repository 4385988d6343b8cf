"""What recipes and registries may hold: everything shipped fits, and no fault goes unnamed."""

import json
import os

import pytest
import yaml

from umlip_latents import resources
from umlip_latents.resources import DATA, InputError, registry
from umlip_latents.schemas import REGISTRIES, Mace, Recipe, fault
from umlip_latents.training import read_recipe

MACE = {"seed": 0, "model": "ScaleShiftMACE", "E0s": "average", "max_num_epochs": 1}
RECIPE = {
    "name": "test",
    "datasets": ["embedded", "li3ps4-gfn1"],
    "group": "origin",
    "held_out": 3,
    "validation": 2,
    "split_seed": 0,
    "mace": MACE,
}


def changed(**entries) -> dict:
    return RECIPE | entries


def mace(**entries) -> dict:
    return changed(mace=MACE | entries)


def lacking(key: str) -> dict:
    return {k: v for k, v in RECIPE.items() if k != key}


def nested(depth: int) -> str:
    return '{"mace":' * depth + "{}" + "}" * depth


# whether as a value or as the text of a file, with what the sentence has to name
BAD = {
    **{f"no {key}": (lacking(key), f"{key}.* is missing") for key in RECIPE},
    "no seed": (changed(mace={k: v for k, v in MACE.items() if k != "seed"}), "mace.seed is miss"),
    "misspelt": (changed(held_outt=1), "held_outt is no known key, but held_out is"),
    "misspelt below": (mace(num_chanels=4), "mace.num_chanels is no .*, but num_channels is"),
    "unlike any": (mace(qqqqqq=4), "mace.qqqqqq is no known key[.]"),
    "foundation model": (mace(foundation_model="evil.model"), "mace.foundation_model is no known"),
    "folder": (mace(work_dir="/"), "mace.work_dir is no known"),
    "checkpoint folder": (mace(checkpoints_dir="x"), "mace.checkpoints_dir is no known"),
    "its own name": (mace(name="../../x"), "mace.name is no known"),
    "restart": (mace(restart_latest=True), "mace.restart_latest is no known"),
    "device": (mace(device="cuda"), "mace.device is no known"),
    "another network": (mace(model="MACE"), "mace.model should be 'ScaleShiftMACE', not 'MACE'"),
    "energies of a file": (mace(E0s="e0s.json"), "mace.E0s should be 'average'"),
    "no epochs": (mace(max_num_epochs=0), "mace.max_num_epochs should be .* equal to 1, not 0"),
    "half an epoch": (mace(max_num_epochs=1.5), "mace.max_num_epochs should be a valid integer"),
    "negative cutoff": (mace(r_max=-1), "mace.r_max should be greater than 0, not -1"),
    "cutoff of a nanometre in pm": (mace(r_max=1000), "mace.r_max should be less than"),
    "no learning rate": (mace(lr=0), "mace.lr should be greater than 0"),
    "negative decay": (mace(weight_decay=-1e-9), "mace.weight_decay should be"),
    "growing rate": (mace(lr_scheduler_gamma=1.1), "mace.lr_scheduler_gamma should be"),
    "no batch": (mace(batch_size=0), "mace.batch_size should be"),
    "true as a number": (mace(batch_size=True), "mace.batch_size should be a valid integer"),
    "a number as true": (mace(ema=1), "mace.ema should be a valid boolean"),
    "text as a number": (mace(lr="0.01"), "mace.lr should be a valid number, not '0.01'"),
    "seed of 23 digits": (mace(seed=10**22), "mace.seed should be"),
    "negative seed": (mace(seed=-1), "mace.seed should be"),
    "vector readout": (mace(MLP_irreps="16x1o"), "mace.MLP_irreps should match"),
    "code as widths": (mace(radial_MLP="__import__('os')"), "mace.radial_MLP should match"),
    "no weights": (
        mace(energy_weight=0, forces_weight=0, stress_weight=0),
        "mace gives energy, forces and stress no weight",
    ),
    "mace is null": (changed(mace=None), "mace should be"),
    "mace is a list": (changed(mace=[]), "mace should be"),
    "name is null": (changed(name=None), "name should be a valid string, not None"),
    "name is a path": (changed(name="../../../x"), "name should match .*, not '../../../x'"),
    "name is hidden": (changed(name=".."), "name should match"),
    "name has a line feed": (changed(name="x\n"), r"name should match .*'x\\n'"),
    "name is unicode": (changed(name="naïve\u202e"), "name should match"),
    "name is empty": (changed(name=""), "name should match"),
    "name has no end": (changed(name="x" * 5000), "name should have at most 200 char"),
    "half a surrogate": ('{"name": "\\ud800"}', "name should"),
    "unicode key": (changed(**{"dätä\n\x1b": 1}), r"dätä\\n\\x1b is no known key"),
    "no data": (changed(datasets=[]), "datasets should have at least 1 item"),
    "data twice": (changed(datasets=["embedded"] * 2), "datasets should name nothing twice"),
    "data as text": (changed(datasets="embedded"), "datasets should be a valid list"),
    "data as numbers": (changed(datasets=[1]), "datasets.0 should be a valid string"),
    "negative held out": (changed(held_out=-3), "held_out should be .* equal to 1, not -3"),
    "none held out": (changed(held_out=0), "held_out should be"),
    "no validation": (changed(validation=0), "validation should be"),
    "seed of the split": (changed(split_seed=2**32), "split_seed should be"),
    "nothing to train on": (changed(training={}), "training should have at least 1 item"),
    "training without a set": (changed(training={"a": 1}), "training names {'a'}, which datasets"),
    "training on nothing": (changed(training={"embedded": 0}), "training.embedded should be"),
    "no atoms": (changed(max_atoms=0), "max_atoms should be"),
    "unknown element": (changed(only="Xx"), "only should be the symbol of an element, not 'Xx'"),
    "element as a number": (changed(only=8), "only should be a valid string"),
    "one unknown element": (changed(without=["O", "o"]), "without.1 should be the symbol"),
    "contradiction": (changed(only="O", without=["O"]), "only and without name the same element"),
    "a list": ([], "should be a valid dictionary"),
    "null": ("null", "should be a valid dictionary"),
    "a text": ('"recipe"', "should be a valid dictionary"),
    "empty": ("", "Expecting value"),
    "not JSON": ("{name: x}", "Expecting property name"),
    "two documents": ("{} {}", "Extra data"),
    "NaN": (json.dumps(mace(lr=float("nan"))), "mace.lr should be"),
    "infinite": (json.dumps(mace(clip_grad=float("inf"))), "mace.clip_grad should be a finite"),
    "1e400": (json.dumps(mace(lr=1)).replace('"lr": 1', '"lr": 1e400'), "mace.lr should be a fin"),
    "10,000 digits": (json.dumps(RECIPE).replace("3", "3" * 10_000), "limit"),
    "a key twice": ('{"name": "a", "name": "b"}', "a key that is there twice"),
    "a key twice below": ('{"mace": {"lr": 1, "lr": 2}}', "a key that is there twice"),
    "deep": (nested(100_000), "recursion"),
    "deep, but not for JSON": (nested(200), "mace.mace is no known key"),
    "huge": (" " * 1_000_001, "no file of up to 1,000,000 bytes"),
    "not UTF-8": (b"\xff\xfe{}", "codec can't decode"),
    "zeros": (b"\0" * 100, "Expecting value"),
    "extends itself": (changed(extends="recipe.json"), "extends itself"),
    "extends in a circle": (changed(extends="other.json"), "extends itself, by way of other.json"),
    "extends nothing": (changed(extends="nothing.json"), "nothing.json: is not a usable recipe"),
    "extends upwards": (changed(extends="../recipe.json"), "extends should match"),
    "extends anything": (changed(extends="/etc/passwd"), "extends should match"),
    "extends null": (changed(extends=None), "extends should be a valid string"),
    "extends a bad one": (changed(extends="bad.json"), "bad.json: .*r_max should .*, not -1"),
}


@pytest.mark.parametrize(("content", "cause"), BAD.values(), ids=BAD)
def test_a_bad_recipe_is_refused_in_one_sentence(tmp_path, content, cause):
    path = tmp_path / "recipe.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "other.json").write_text('{"extends": "recipe.json"}')
    (tmp_path / "bad.json").write_text('{"mace": {"r_max": -1}}')
    with pytest.raises(InputError, match=cause) as refused:
        read_recipe(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(tmp_path))
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert len(sentence) < 300 + len(str(path))


@pytest.mark.parametrize("kind", ["folder", "missing", "pipe"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "recipe.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputError, match="is not a usable recipe"):
        read_recipe(path)


def test_a_partial_file_is_whole_with_what_it_extends(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(lacking("group")))
    (tmp_path / "one.json").write_text('{"extends": "base.json", "group": "name"}')
    (tmp_path / "two.json").write_text('{"extends": "one.json", "name": "n", "mace": {"seed": 4}}')
    assert read_recipe(tmp_path / "two.json") == RECIPE | {
        "group": "name",
        "name": "n",
        "mace": MACE | {"seed": 4},
    }
    with pytest.raises(InputError, match=r"base\.json: is not a usable recipe: group is missing"):
        read_recipe(tmp_path / "base.json")


@pytest.mark.parametrize("path", sorted((DATA / "recipes").glob("*.json")), ids=lambda p: p.stem)
def test_every_shipped_recipe_fits(path):
    assert read_recipe(path)["name"] == path.stem


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_shipped_registry_fits(name):
    assert registry(name) == yaml.safe_load((DATA / f"{name}.yaml").read_text())


def test_what_a_recipe_may_tell_mace_torch_are_arguments_of_its_trainer_without_paths():
    from mace.tools import build_default_arg_parser

    known = {a.dest: a for a in build_default_arg_parser()._actions}
    allowed = Mace.__origin__.model_fields
    assert allowed.keys() <= known.keys()
    paths = ("file", "dir", "model_", "device", "checkpoint", "restart", "foundation", "wandb")
    assert not [key for key in allowed if any(part in key for part in paths)]
    for key, field in allowed.items():
        values = getattr(field.annotation, "__args__", ())
        if known[key].choices:
            assert set(values) <= set(known[key].choices), key


URL = "https://example.org/x"
SUM = "0" * 64
MODEL = {
    **dict.fromkeys(["family", "description", "training_data", "functional", "licence"], "x"),
    "citation": "",
    "offline": True,
}
DATASET = {"description": "x", "licence": "x", "citation": ["x"]}
CLAIM = dict.fromkeys(["section", "short", "place", "claim", "counterpart"], "x") | {
    "there": {"x": None},
    "here": {"ours": {"file": "x.csv", "query": "a == 1"}},
    "rule": {"below": 1},
    "why": {"agrees": "x"},
}


@pytest.mark.parametrize(
    ("name", "entry", "cause"),
    [
        ("models", MODEL, ""),
        ("models", MODEL | {"file": "../x"}, "mine.file should match"),
        ("models", MODEL | {"file": "/x"}, "mine.file should match"),
        ("models", MODEL | {"url": "http://x"}, "mine.url should match"),
        ("models", MODEL | {"sha256": "0" * 63}, "mine.sha256 should match"),
        ("models", MODEL | {"sha_256": SUM}, "mine.sha_256 is no known key, but sha256 is"),
        ("models", MODEL | {"offline": "yes"}, "mine.offline should be a valid boolean"),
        ("models", MODEL | {"widths": {"last": 0}}, "mine.widths.last should be"),
        ("models", MODEL | {"environment": "../../x"}, "mine.environment should match"),
        ("models", MODEL | {"arguments": {"file": "x", "url": URL}}, "mine.arguments.sha256 is m"),
        ("models", None, "mine should be a valid dictionary"),
        ("datasets", DATASET | {"path": "x", "sha256": SUM}, ""),
        ("datasets", DATASET | {"landing_page": URL}, ""),
        ("datasets", DATASET | {"file": "x", "url": URL, "sha256": SUM}, ""),
        ("datasets", DATASET, "mine has to have one of path, file and landing_page"),
        ("datasets", DATASET | {"file": "x", "sha256": SUM}, "mine has to have both file and url"),
        ("datasets", DATASET | {"path": "x"}, "mine has to have a sha256"),
        ("datasets", DATASET | {"path": "x", "sha256": None}, "mine.sha256 should be"),
        ("claims", CLAIM, ""),
        ("claims", CLAIM | {"rule": {"below": "theirs"}}, "mine rule.below names 'theirs'"),
        ("claims", CLAIM | {"rule": {"beside": 1}}, "mine.rule.beside"),
        ("claims", {k: v for k, v in CLAIM.items() if k != "rule"}, "mine has to have both here"),
        ("claims", CLAIM | {"here": {"ours": {"query": "x"}}}, "mine.here.ours.file is missing"),
    ],
)
def test_an_entry_fits_or_its_fault_is_named(tmp_path, monkeypatch, name, entry, cause):
    found = fault(REGISTRIES[name], {"mine": entry})
    assert found.startswith(cause)
    assert bool(found) == bool(cause)
    monkeypatch.setattr(resources, "DATA", tmp_path)
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"mine": entry}))
    if cause:
        with pytest.raises(InputError, match=rf"{name}\.yaml: mine"):
            registry.__wrapped__(name)
    else:
        assert registry.__wrapped__(name) == {"mine": entry}


@pytest.mark.parametrize("text", ["a: [", "a: *b", "- a", "", "!!python/object:os.system {}"])
def test_a_registry_that_is_none_is_named(tmp_path, monkeypatch, text):
    monkeypatch.setattr(resources, "DATA", tmp_path)
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(InputError, match=r"models\.yaml: ") as refused:
        registry.__wrapped__("models")
    assert str(refused.value).isprintable()


def test_the_bad_recipes_are_bad_for_one_reason():
    assert fault(Recipe, RECIPE) == ""
    assert fault(Recipe, mace(lr=1, MLP_irreps="16x0e", radial_MLP="[64, 64]", ema=True)) == ""
    assert fault(Recipe, changed(only="O", without=["F"], training={"embedded": 1})) == ""
