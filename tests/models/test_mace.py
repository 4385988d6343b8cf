"""MACE: a shipped checkpoint, and a network of two heads and vectors with random weights."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch

from umlip_latents import list_models, load_model
from umlip_latents.book import own_parameters
from umlip_latents.models.mace import MaceModel
from umlip_latents.resources import DATA, InputError, registry

from . import checks
from .checks import energies, latents, specimens

SHIPPED = "mini-mace-mptrj"


def card() -> dict:
    """That of the shipped one."""
    return json.loads((DATA / "checkpoints" / f"{SHIPPED}.json").read_text())


@pytest.fixture(scope="module")
def two_heads() -> torch.nn.Module:
    """Two heads with their own scales, shifts and energies of the elements; vectors between."""
    architecture = card()["architecture"] | {"hidden_irreps": "16x0e + 16x1o"}
    energies = np.array(architecture["atomic_energies"]).reshape(1, -1)
    architecture["atomic_energies"] = np.concatenate([energies, 2 * energies])
    architecture["heads"] = ["one", "two"]
    architecture["atomic_inter_scale"] = [0.7, 1.3]
    architecture["atomic_inter_shift"] = [0.1, -0.2]
    return MaceModel.build(architecture, seed=3)


@pytest.fixture(scope="module", params=[SHIPPED, "two"])
def model(models, two_heads, request) -> MaceModel:
    if request.param == SHIPPED:
        return models[SHIPPED]
    return MaceModel(two_heads, "two-heads", request.param)


class TestAdapter(checks.AdapterSuite):
    pass


def test_last_layer_gives_the_energies_of_the_library(model, crystals):
    """Which adds those of the elements."""
    batch = model.batch([model.prepare(a) for a in crystals])
    with torch.no_grad():
        theirs = model.network(batch, compute_force=False)["node_energy"].numpy()
        isolated = model.network.atomic_energies_fn(batch["node_attrs"]).numpy()
    theirs = theirs - isolated[:, model.heads.index(model.head)]
    assert np.ptp(theirs) > 1e-3
    scale = max(1, float(np.abs(theirs).max()))
    assert energies(model, crystals) == pytest.approx(theirs, abs=2e-5 * scale)


def test_backbone_is_all_interactions_side_by_side(model):
    found = latents(model, specimens()[:3])
    parts = [found["interaction-1"], found["interaction-2"]]
    assert np.array_equal(found["backbone"], np.concatenate(parts, axis=1))
    hidden = model.network.readouts[-1].hidden_irreps.dim // len(model.heads)
    assert found["last"].shape[1] == parts[0].shape[1] + hidden


def test_precision(model):
    double = MaceModel(copy.deepcopy(model.network).double(), model.name, model.head)
    checks.check_precision(model, double, specimens())


def test_a_network_with_heads_needs_one_of_them(two_heads, data):
    path = MaceModel(two_heads, "two-heads", "one").save(data / "both")
    assert load_model(path).head == "one"  # as the card says
    torch.save(two_heads, data / "both.model")
    for ending, head in ((".safetensors", "two"), (".model", "two")):
        model = load_model(f"{data}/both{ending}:{head}", trust=True)
        assert (model.name, model.head) == ("both-two", "two")
    for wrong in ("", ":three"):
        with pytest.raises(InputError, match="needs one of its heads one, two, as FILE:HEAD"):
            load_model(f"{data}/both.model{wrong}")


def test_what_is_neither_weight_nor_buffer_is_part_of_what_it_is(tmp_path, models):
    path = models[SHIPPED].save(tmp_path / "new")
    changed = json.loads((tmp_path / "new.json").read_text())
    changed["architecture"]["avg_num_neighbors"] *= 2
    (tmp_path / "new.json").write_text(json.dumps(changed))
    assert load_model(path).fingerprint != models[SHIPPED].fingerprint


def test_weights_without_their_card_are_refused(tmp_path):
    shutil.copy(DATA / list_models()[SHIPPED]["file"], tmp_path / "alone.safetensors")
    with pytest.raises(
        InputError, match=r"alone\.safetensors: its JSON card alone\.json is missing"
    ):
        load_model(tmp_path / "alone.safetensors")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("{", "cannot be loaded .JSONDecodeError"),
        ("[]", "cannot be loaded"),
        ({"sha256": None}, r"its card m\.json says None"),
        ({"head": 3}, "needs one of its heads Default, as FILE:HEAD, not 3"),
        ({"architecture": card()["architecture"] | {"r_max": "far"}}, "cannot be loaded"),
        ({"architecture": card()["architecture"] | {"gate": "os.system"}}, "cannot be loaded"),
    ],
)
def test_whatever_stands_in_a_card_is_one_sentence(tmp_path, models, change, why):
    models[SHIPPED].save(tmp_path / "m.safetensors")
    file = tmp_path / "m.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(file.read_text()) | change)
    file.write_text(text)
    with pytest.raises(InputError, match=why) as caught:
        load_model(tmp_path / "m.safetensors")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of downloads, in which a test may put its own; and the cache beside it."""
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_of_a_foundation_model_the_very_bytes_are_trusted(data, models):
    file = data / list_models()["mace-mp-0a-small"]["file"]
    torch.save(models[SHIPPED].network, file)
    for source in ("mace-mp-0a-small", file):
        with pytest.raises(InputError, match=r"is pickled .* --trust"):
            load_model(source)
    own_parameters("04", {"models": str(file), "n_splits": 3}, trust=True)
    for source in ("mace-mp-0a-small", file):
        assert load_model(source).fingerprint == models[SHIPPED].fingerprint
    assert load_model("mace-mp-0a-small").name == "mace-mp-0a-small"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(InputError, match="is pickled"):
        load_model("mace-mp-0a-small")


def test_the_head_of_a_foundation_model_is_that_of_its_entry(data, two_heads):
    entry = list_models()["mace-mh-1"]
    network = copy.deepcopy(two_heads)
    network.heads = ["matpes", entry["head"]]
    torch.save(network, data / entry["file"])
    assert load_model("mace-mh-1", trust=True).head == entry["head"]


def test_the_foundation_models_are_those_of_mace_torch():
    from mace.calculators.foundations_models import mace_mp_urls, mace_off_urls

    urls = {e["url"] for e in registry("models").values() if e["family"] == "MACE" and "url" in e}
    assert len(urls) == 13
    assert urls <= {*mace_mp_urls.values(), *mace_off_urls.values()}
