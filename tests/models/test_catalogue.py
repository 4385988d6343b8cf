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
    with pytest.raises(InputError, match="ends in"):
        load_model(tmp_path / "weights.bin")
    with pytest.raises(InputError, match="device abacus: PyTorch has no such device here"):
        load_model("element", device="abacus")


def test_a_model_is_loaded_onto_a_device():
    assert load_model("mini-mace-mptrj", device="meta").device == torch.device("meta")
    assert load_model("mini-mace-mptrj", device=torch.device("cpu")).device.type == "cpu"


def test_a_changed_checkpoint_of_the_catalogue_is_refused(monkeypatch):
    entry = {**list_models()["chgnet-0.3.0"], "sha256": "0" * 64}
    changed = {**registry("models"), "chgnet-0.3.0": entry}
    monkeypatch.setattr("umlip_latents.models.catalogue.registry", lambda _: changed)
    with pytest.raises(InputError, match=r"SHA-256 is d14ab7c.*000"):
        load_model("chgnet-0.3.0")


def test_a_model_of_an_environment_is_described_without_making_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = (load_model(name, device="meta") for name in ("7net-mf-0-PBE", "7net-mf-0-R2SCAN"))
    assert isinstance(one, RemoteModel)
    assert one.environment == other.environment == "sevennet"
    assert one.widths == {"backbone": 128, "last": 64}
    assert one.device == "meta"
    assert one.fingerprint != other.fingerprint  # one checkpoint, two modalities
    assert not list(tmp_path.iterdir())


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

class Unfinished:
    name = "unfinished"

def broken():
    raise RuntimeError("not today")
"""


def test_a_model_of_ones_own_is_loaded_by_path(tmp_path, crystals):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    model = load_model(f"{path}:Counting")
    rows = model.features([model.prepare(atoms) for atoms in crystals])["last"]
    assert len(rows) == sum(map(len, crystals))
    assert model.fingerprint == ""  # nobody knows which files its code reads


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Unfinished", "its model lacks widths, prepare, size, features"),
        ("broken", "cannot be loaded .RuntimeError: not today"),
        ("Gone", "KeyError: 'Gone'"),
    ],
)
def test_a_model_of_ones_own_that_cannot_be_used(tmp_path, attribute, message):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(InputError, match=message):
        load_model(f"{tmp_path / 'mine.py'}:{attribute}")
    with pytest.raises(InputError, match=r"gone\.py: no such file"):
        load_model(f"{tmp_path / 'gone.py'}:{attribute}")
