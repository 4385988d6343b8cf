"""Names, files, checksums and trust."""

import copy
import json
import shutil
from pathlib import Path

import chgnet
import numpy as np
import pytest
import torch

from umlip_latents import extract_features, list_models, load_model
from umlip_latents.cli import main
from umlip_latents.models import catalog
from umlip_latents.models.base import VERSION
from umlip_latents.models.mace import MaceModel, build_network
from umlip_latents.properties import invariance_deviations
from umlip_latents.resources import DATA, InputError, registry, sha256

from .test_adapters import mace_energies

FAMILIES = Path(catalog.__file__).parent


def test_every_entry_is_complete():
    for name, entry in list_models().items():
        for key in ("training_data", "functional", "licence", "description"):
            assert entry[key], (name, key)
        module = entry["family"].lower().replace("-", "")
        assert (FAMILIES / f"{module}.py").is_file(), entry["family"]
        if "widths" in entry:
            assert list(entry["widths"]) == ["backbone", "last"]
        else:  # known only once the file is there
            assert not entry["offline"]
            assert "checkpoint" in entry or entry["url"].startswith("https://")


def test_the_shipped_models_say_that_they_were_trained_for_the_book():
    entry = list_models()["mini-mace-data-half-s0"]
    assert entry["training_data"] == "this book's public samples, 375 structures"
    assert entry["description"].endswith(", trained for this book on 375 structures")


def test_every_citation_is_in_the_references():
    text = (DATA.parent / "book" / "references.bib").read_text(encoding="utf-8")
    for name, entry in list_models().items():
        assert not entry["citation"] or f"{{{entry['citation']}," in text, name


def test_the_foundation_models_are_those_of_mace_torch():
    from mace.calculators.foundations_models import mace_mp_urls, mace_off_urls

    urls = {e["url"] for e in registry("models").values() if e["family"] == "MACE" and "url" in e}
    assert len(urls) == 13
    assert urls <= {*mace_mp_urls.values(), *mace_off_urls.values()}


def test_untrained_twins_follow_their_seed(models):
    again, other = load_model("chgnet-untrained-s0"), load_model("chgnet-untrained-s1")
    assert again.fingerprint == models["chgnet-untrained-s0"].fingerprint
    assert other.fingerprint != again.fingerprint
    one, other = (load_model(f"mini-mace-untrained-s{seed}") for seed in (3, 4))
    assert one.fingerprint != other.fingerprint


def test_drawing_a_twin_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model("mini-mace-untrained-s0")
    assert torch.equal(torch.rand(1), expected)


def test_unknown_names_and_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or model"):
        load_model("chgnet-9.9.9")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="ends in"):
        load_model(tmp_path / "weights.bin")


def test_a_pickled_file_needs_trust(tmp_path, models):
    path = tmp_path / "mine.model"
    torch.save(models["mini-mace-mptrj"].network, path)
    with pytest.raises(InputError, match="--trust"):
        load_model(path)
    assert load_model(path, trust=True).fingerprint == models["mini-mace-mptrj"].fingerprint


def test_pickled_code_in_a_chgnet_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"model": Bomb()}, tmp_path / "bad.pth.tar")
    with pytest.raises(InputError, match="is not a CHGNet, or holds more than tensors") as caught:
        load_model(tmp_path / "bad.pth.tar")
    assert "weights_only" not in str(caught.value)  # torch's advice
    assert not (tmp_path / "exploded").exists()


def test_a_broken_or_cardless_safetensors_is_refused(tmp_path):
    source = DATA / list_models()["mini-mace-mptrj"]["file"]
    shutil.copy(source, tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match="card"):
        load_model(tmp_path / "alone.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(source.read_bytes()[:1000])
    shutil.copy(source.with_suffix(".json"), tmp_path / "torn.json")
    with pytest.raises(InputError, match=r"SHA-256 is .*, its card torn\.json says"):
        load_model(tmp_path / "torn.safetensors")


def test_a_changed_checkpoint_of_the_catalogue_is_refused(monkeypatch):
    entry = {**list_models()["chgnet-0.3.0"], "sha256": "0" * 64}
    changed = {**registry("models"), "chgnet-0.3.0": entry}
    monkeypatch.setattr("umlip_latents.models.catalog.registry", lambda _: changed)
    with pytest.raises(InputError, match="the registry expects"):
        load_model("chgnet-0.3.0")


def test_a_chgnet_file_loads_by_path(models):
    folder = Path(chgnet.__file__).parent / "pretrained"
    found = load_model(folder / list_models()["chgnet-0.3.0"]["file"])
    assert found.fingerprint == models["chgnet-0.3.0"].fingerprint


def test_a_saved_mace_is_the_same_mace(tmp_path, models, crystals):
    new = MaceModel(build_network(card()["architecture"], seed=11), "new")
    new.save(tmp_path / "new.safetensors", note="kept")
    again = load_model(tmp_path / "new.safetensors")
    assert json.loads((tmp_path / "new.json").read_text())["note"] == "kept"
    one = extract_features(crystals, new, "last", progress=False).features
    other = extract_features(crystals, again, "last", progress=False).features
    assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert again.fingerprint == new.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.json", "new.safetensors"]


def test_weights_and_their_card_belong_together(tmp_path, models):
    """A byte of the weights, and whatever may stand in the card."""
    models["mini-mace-mptrj"].save(tmp_path / "m.safetensors")
    weights, text = (tmp_path / "m.safetensors").read_bytes(), (tmp_path / "m.json").read_text()
    assert load_model(tmp_path / "m.safetensors").widths
    (tmp_path / "m.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(InputError, match=r"m\.safetensors: SHA-256 is .*, its card m\.json says"):
        load_model(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes(weights)
    whole = json.loads(text)
    odd = [
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[]", "is not the card of a MACE"),
        ("3", "is not the card of a MACE"),
        (json.dumps(whole | {"architecture": [1]}), "is not the card of a MACE"),
        (json.dumps(whole | {"sha256": "0" * 64}), "its card m.json says 000"),
        (json.dumps(whole | {"sha256": None}), "its card m.json says None"),
        (json.dumps(whole | {"head": 3}), "needs one of its heads Default, not 3"),
    ]
    strange = {"num_bessel": 7, "r_max": "far", "interaction_cls": "os.system"}
    strange |= {"extra": 1}
    for key, value in strange.items():
        changed = whole["architecture"] | {key: value}
        odd.append((json.dumps(whole | {"architecture": changed}), "cannot be loaded"))
    for content, why in odd:
        (tmp_path / "m.json").write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(InputError, match=why) as caught:
            load_model(tmp_path / "m.safetensors")
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(models, name, value):
    network = copy.deepcopy(models[name].network)
    weight, tensor = list(network.named_parameters())[-1]
    with torch.no_grad():
        tensor.view(-1)[0] = value
    with pytest.raises(InputError, match=f"odd: its weights {weight} are not all finite"):
        type(models[name])(network, "odd")


def test_constants_that_are_not_numbers_are_refused_by_name(models):
    network = copy.deepcopy(models["mini-mace-mptrj"].network)
    network.atomic_energies_fn.atomic_energies[..., 0] = np.nan
    with pytest.raises(InputError, match=r"odd: its weights atomic_energies_fn\.atomic_energies"):
        MaceModel(network, "odd")


def test_hyperparameters_are_part_of_what_a_model_is(tmp_path, models):
    """The same weights in another architecture are another model, whatever file they are in."""
    models["mini-mace-mptrj"].save(tmp_path / "m.safetensors")
    saved = load_model(tmp_path / "m.safetensors")
    assert saved.fingerprint == models["mini-mace-mptrj"].fingerprint
    changed = json.loads((tmp_path / "m.json").read_text())
    changed["architecture"]["avg_num_neighbors"] *= 2  # no weight, and no buffer
    (tmp_path / "m.json").write_text(json.dumps(changed))
    edited = load_model(tmp_path / "m.safetensors")
    for key, tensor in saved.network.state_dict().items():
        assert torch.equal(tensor, edited.network.state_dict()[key])
    assert edited.fingerprint != saved.fingerprint
    source = Path(chgnet.__file__).parent / "pretrained" / list_models()["chgnet-0.3.0"]["file"]
    state = torch.load(source, weights_only=True, map_location="cpu")
    state["model"]["model_args"]["atom_graph_cutoff"] = 5.0
    torch.save({"model": state["model"]}, tmp_path / "edited.pth.tar")
    assert load_model(tmp_path / "edited.pth.tar").fingerprint != models["chgnet-0.3.0"].fingerprint


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: {},
        lambda state: [1],
        lambda state: {"model": 3},
        lambda state: {"model": state | {"model_args": None}},
        lambda state: {
            "model": state | {"model_args": state["model_args"] | {"atom_fea_dim": "x"}}
        },
        lambda state: {"model": state | {"model_args": state["model_args"] | {"n_conv": 2}}},
        lambda state: {"model": state | {"state_dict": {}}},
    ],
)
def test_an_edited_chgnet_file_is_refused_in_a_sentence(tmp_path, spoil):
    source = Path(chgnet.__file__).parent / "pretrained" / list_models()["chgnet-0.3.0"]["file"]
    state = torch.load(source, weights_only=True, map_location="cpu")["model"]
    torch.save(spoil(state), tmp_path / "odd.pth.tar")
    with pytest.raises(InputError, match=r"odd\.pth\.tar: cannot be loaded") as caught:
        load_model(tmp_path / "odd.pth.tar")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


# of the backbone, the last layer, and the interactions, over the atoms of the crystals
NORMS = {
    "element": [4.7958, 4.7958],
    "chgnet-0.2.0": [24.452, 22.714, 19.195, 19.943, 21.349, 24.452],
    "chgnet-0.3.0": [13.077, 11.049, 104.89, 107.05, 104.86, 156.48],
    "chgnet-r2scan": [13.972, 10.668, 101.02, 102.32, 100.12, 148.34],
    "mini-mace-mptrj": [1.5923, 1.7159, 1.5416, 0.39853],
    "mini-mace-architecture-correlation-3-s0": [2.2761, 3.3475, 2.051, 0.98685],
}


def test_features_change_with_the_version_of_their_code_alone(crystals):
    """The norms of a few features. Where they change, raise `VERSION`, and renew them."""
    assert VERSION == 1
    for name, expected in NORMS.items():
        model = load_model(name)
        found = model.features([model.prepare(atoms) for atoms in crystals])
        norms = [float(np.linalg.norm(x)) for x in found.values()]
        assert norms == pytest.approx(expected, rel=1e-4), name


def card() -> dict:
    """A small MACE's."""
    return json.loads((DATA / "checkpoints" / "mini-mace-mptrj.json").read_text())


def test_mace_with_vector_features_gives_only_scalars(crystals):
    architecture = card()["architecture"] | {"hidden_irreps": "16x0e + 16x1o"}
    model = MaceModel(build_network(architecture), "vectors")
    assert model.widths == {
        "backbone": 32, "last": 32, "interaction-1": 16, "interaction-2": 16
    }  # fmt: skip
    for operation, deviation in invariance_deviations(model, crystals).items():
        assert deviation < 1e-4, operation


@pytest.fixture(scope="module")
def two_heads():
    """A MACE with two heads, and different isolated atoms, scales and shifts for each."""
    architecture = card()["architecture"]
    energies = np.array(architecture["atomic_energies"]).reshape(1, -1)
    architecture["atomic_energies"] = np.concatenate([energies, 2 * energies])
    architecture["heads"] = ["one", "two"]
    architecture["atomic_inter_scale"] = [0.7, 1.3]
    architecture["atomic_inter_shift"] = [0.1, -0.2]
    return build_network(architecture, seed=3)


@pytest.mark.parametrize("head", ["one", "two"])
def test_each_head_of_a_mace_has_its_own_last_layer(two_heads, crystals, head):
    model = MaceModel(two_heads, "two-heads", head)
    hidden = two_heads.readouts[-1].hidden_irreps.dim // 2
    assert model.widths["last"] == model.widths["interaction-1"] + hidden
    mine, theirs = mace_energies(model, crystals)
    assert np.ptp(theirs) > 1e-3
    assert mine == pytest.approx(theirs, abs=1e-4)


def test_the_heads_of_a_mace_differ_in_the_last_layer_only(two_heads, crystals):
    one, two = (MaceModel(two_heads, head, head) for head in ("one", "two"))
    first, second = (m.features([m.prepare(a) for a in crystals]) for m in (one, two))
    assert first["backbone"] == pytest.approx(second["backbone"], rel=1e-4, abs=1e-5)
    assert not np.allclose(first["last"], second["last"], atol=1e-3)


def test_a_mace_with_heads_needs_one_of_them(two_heads):
    for head in (None, "three"):
        with pytest.raises(InputError, match="needs one of its heads one, two"):
            MaceModel(two_heads, "two-heads", head)


def test_a_foundation_model_is_trusted_on_first_use_only(tmp_path, monkeypatch, models, capsys):
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    file = data / list_models()["mace-mp-0a-small"]["file"]
    torch.save(models["mini-mace-mptrj"].network, file)
    with pytest.raises(InputError, match=r"no SHA-256 is published .* pass --trust"):
        load_model("mace-mp-0a-small")
    assert not cache.exists()
    first = load_model("mace-mp-0a-small", trust=True)
    assert first.fingerprint == models["mini-mace-mptrj"].fingerprint
    record = cache / "umlip-latents" / f"{file.name}.sha256"
    assert record.read_text().strip() == sha256(file)
    assert "no SHA-256 was published" in capsys.readouterr().err
    assert load_model("mace-mp-0a-small").name == "mace-mp-0a-small"
    assert capsys.readouterr().err == ""
    torch.save(models["mini-mace-untrained-s0"].network, file)
    with pytest.raises(InputError, match="the first copy had"):
        load_model("mace-mp-0a-small")


def test_the_head_of_a_foundation_model_is_that_of_its_entry(tmp_path, monkeypatch, two_heads):
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = list_models()["mace-mh-1"]
    network = copy.deepcopy(two_heads)
    network.heads = ["matpes", entry["head"]]
    torch.save(network, tmp_path / entry["file"])
    assert load_model("mace-mh-1", trust=True).head == entry["head"]


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
    assert model.fingerprint == sha256(path)
    found = extract_features(crystals, model, "last", progress=False)
    assert (found.features[:, 0] == np.repeat(found.n_atoms, found.n_atoms)).all()
    path.write_text(OWN + "# changed")
    assert load_model(f"{path}:Counting").fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Unfinished", "its model lacks widths, prepare, size, features"),
        ("broken", "cannot be loaded .RuntimeError: not today"),
        ("Gone", "no attribute 'Gone'"),
    ],
)
def test_a_model_of_ones_own_that_cannot_be_used(tmp_path, attribute, message):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(InputError, match=message):
        load_model(f"{tmp_path / 'mine.py'}:{attribute}")
    with pytest.raises(InputError, match=r"gone\.py: no such file"):
        load_model(f"{tmp_path / 'gone.py'}:{attribute}")


def test_an_installed_package_may_register_a_model(tmp_path, monkeypatch, capsys):
    (tmp_path / "their_package.py").write_text(OWN)
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    points = "[umlip_latents.models]\ntheirs = their_package:Counting\nelement = nowhere:None\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_model("theirs").name == "counting"
    assert load_model("element").name == "element"  # the catalogue comes first
    assert main(["models"]) == 0
    assert "theirs" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["theirs"]["family"] == "plug-in"
