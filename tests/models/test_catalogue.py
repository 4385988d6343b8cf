"""Names, files, checksums and models of one's own."""

import json
from pathlib import Path

import pytest
import torch

from umlip_latents import list_models, load_model
from umlip_latents.models import catalogue
from umlip_latents.models.environments import RemoteModel, environment_names
from umlip_latents.resources import DATA, InputError, registry

FAMILIES = Path(catalogue.__file__).parent
NEEDED = {"family", "description", "training_data", "functional", "licence", "citation", "offline"}
OPTIONAL = {"architecture", "trained_on", "objective", "started_from", "like", "parameters"}
OPTIONAL |= {"widths", "file", "url", "sha256", "arguments", "environment"}
OPTIONAL |= {"head", "modal", "target", "checkpoint", "task", "branch", "exchanged", "domain"}


@pytest.mark.parametrize("name", list_models())
def test_an_entry_has_what_the_code_reads(name):
    entry = list_models()[name]
    assert NEEDED <= entry.keys() <= NEEDED | OPTIONAL
    assert all(entry[key] for key in NEEDED - {"citation", "offline"})
    module = entry.get("environment", entry["family"].lower()).partition("-")[0]
    assert (FAMILIES / f"{module}.py").is_file()
    assert entry.get("environment") in (None, *environment_names())
    assert {entry[key] for key in ("like", "started_from") if key in entry} <= {*list_models()}
    if entry["offline"]:
        assert list(entry["widths"]) == ["backbone", "last"]
    else:
        assert {"url", "checkpoint", "like"} & entry.keys()


def test_every_environment_has_a_model():
    used = {entry.get("environment") for entry in list_models().values()}
    assert used - {None} == {*environment_names()}


def test_every_citation_is_in_the_references():
    text = (DATA.parent / "book" / "references.bib").read_text(encoding="utf-8")
    for name, entry in list_models().items():
        assert not entry["citation"] or f"{{{entry['citation']}," in text, name


def test_every_shipped_checkpoint_is_in_the_catalogue_as_its_card_says():
    cards = [json.loads(file.read_text()) for file in (DATA / "checkpoints").glob("*.json")]
    assert len(cards) == sum("checkpoints/" in e.get("file", "") for e in list_models().values())
    for card in cards:
        entry, structures = list_models()[card["name"]], f"{card['n_structures']['training']} str"
        assert entry["file"] == f"checkpoints/{card['name']}.safetensors"
        assert {key: entry[key] for key in ("parameters", "widths")}.items() <= card.items()
        assert structures in entry["training_data"]


@pytest.mark.parametrize("name", ["element", "chgnet-untrained-s5", "mini-mace-base-s0"])
def test_widths_and_parameters_are_those_of_the_catalogue(models, name):
    model, entry = models[name], catalogue.catalogue_entry(name)
    assert {layer: model.widths[layer] for layer in ("backbone", "last")} == entry["widths"]
    if hasattr(model, "network"):
        assert sum(p.numel() for p in model.network.parameters()) == entry["parameters"]


def test_unknown_names_endings_and_devices_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or model"):
        load_model("chgnet-9.9.9")
    (tmp_path / "weights.bin").write_bytes(b"x")
    for file in ("weights.bin", ""):
        with pytest.raises(
            InputError, match=r"a model ends in \.pth\.tar, .*, or is FILE\.py:NAME"
        ):
            load_model(tmp_path / file)
    with pytest.raises(InputError, match="device abacus: PyTorch has no such device here"):
        load_model("element", device="abacus")


def test_a_model_is_loaded_onto_a_device():
    model = load_model("mini-mace-mptrj", device="meta")
    assert model.device == torch.device("meta")
    assert {weight.device.type for weight in model.network.parameters()} == {"meta"}
    assert load_model("mini-mace-mptrj", device=torch.device("cpu")).device.type == "cpu"


def test_a_changed_checkpoint_of_the_catalogue_is_refused(monkeypatch):
    entry = {**list_models()["chgnet-0.3.0"], "sha256": "0" * 64}
    changed = {**registry("models"), "chgnet-0.3.0": entry}
    monkeypatch.setattr("umlip_latents.models.catalogue.registry", lambda _: changed)
    with pytest.raises(InputError, match=r"SHA-256 is d14ab7c.*000"):
        load_model("chgnet-0.3.0")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for what is kept between runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_of_an_environment_is_described_without_making_it(cache):
    one, other = (load_model(name, device="meta") for name in ("7net-mf-0-PBE", "7net-mf-0-R2SCAN"))
    assert isinstance(one, RemoteModel)
    assert one.environment == other.environment == "sevennet"
    assert one.widths == {"backbone": 128, "last": 64}
    assert one.device == "meta"
    assert one.fingerprint != other.fingerprint  # one checkpoint, two modalities
    assert not cache.exists()


def folder_of_matgl(folder, module, family="TensorNet"):
    """One that matgl might have saved, of which nothing is read but the JSON."""
    folder.mkdir()
    (folder / "state.pt").write_bytes(b"x")
    network = {"@class": family, "@module": f"matgl.models.{module}"}
    (folder / "model.json").write_text(json.dumps({"kwargs": {"model": network}}))
    return folder


def test_a_file_of_a_family_with_an_environment_is_described_without_making_it(tmp_path, cache):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for ending in ("nqx", "pth"):
            (tmp_path / folder / f"tuned.{ending}").write_text(folder)
    one, other = (load_model(tmp_path / folder / "tuned.nqx") for folder in ("one", "other"))
    assert (one.name, one.environment) == ("tuned", "nequix")
    assert one.source == str(tmp_path / "one" / "tuned.nqx")
    assert one.fingerprint != other.fingerprint
    with pytest.raises(InputError, match=r"tuned\.pth: is pickled and can run any code .* --trust"):
        load_model(tmp_path / "one" / "tuned.pth")
    plain, modal = (load_model(f"{tmp_path}/one/tuned.pth{m}", trust=True) for m in ("", ":PBE"))
    assert (modal.name, modal.environment) == ("tuned-PBE", "sevennet")
    assert plain.fingerprint != modal.fingerprint
    assert load_model(tmp_path / "one" / "tuned.pth") == plain  # these bytes are trusted now
    with pytest.raises(InputError, match="is pickled"):
        load_model(tmp_path / "other" / "tuned.pth")
    for module, environment in (("_tensornet_pyg", "matgl"), ("_tensornet_dgl", "matgl-dgl")):
        model = load_model(folder_of_matgl(tmp_path / module, module))
        assert (model.name, model.environment) == (module, environment)
    with pytest.raises(InputError, match="MEGNet: no such family of matgl"):
        load_model(folder_of_matgl(tmp_path / "other matgl", "_megnet", "MEGNet"))
    assert [path.name for path in cache.glob("*/*")] == ["trusted"]


OWN = """
import chgnet
import numpy as np

class Counting:
    name = "counting"
    widths = {"backbone": 1, "last": 1}

    def prepare(self, atoms):
        return len(atoms)

    def size(self, graph):
        return graph

    def features(self, graphs):
        ones = np.concatenate([np.full((n, 1), n, np.float32) for n in graphs])
        return {"backbone": ones, "last": ones}

ready = Counting()

def make():
    return Counting()

class Unfinished:
    name = "unfinished"

def broken():
    raise RuntimeError("not today")
"""


@pytest.mark.parametrize("name", ["Counting", "make", "ready"])
def test_a_model_of_ones_own_is_loaded_by_path(tmp_path, crystals, name):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    model = load_model(f"{path}:{name}")
    rows = model.features([model.prepare(atoms) for atoms in crystals])["last"]
    assert len(rows) == sum(map(len, crystals))
    assert model.fingerprint == ""  # nobody knows which files its code reads


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Unfinished", "its model lacks widths, prepare, size, features"),
        ("broken", "cannot be loaded .RuntimeError: not today"),
        ("Gone", r"mine\.py:Gone: no such model .*Counting"),
    ],
)
def test_a_model_of_ones_own_that_cannot_be_used(tmp_path, attribute, message):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(InputError, match=message):
        load_model(f"{tmp_path / 'mine.py'}:{attribute}")
    with pytest.raises(InputError, match=r"gone\.py: no such file"):
        load_model(f"{tmp_path / 'gone.py'}:{attribute}")
