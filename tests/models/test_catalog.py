"""Names, files, checksums and trust."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from umlip_latents import extract_features, list_models, load_model
from umlip_latents.models.chgnet import packaged_file
from umlip_latents.models.mace import build_network, save_network
from umlip_latents.resources import DATA, InputError, registry


def test_every_entry_is_complete():
    for name, entry in list_models().items():
        for key in ("family", "training_data", "functional", "licence", "widths", "description"):
            assert entry[key], (name, key)
        assert set(entry["widths"]) == {"backbone", "last"}


def test_untrained_twins_follow_their_seed(models):
    again, other = load_model("chgnet-untrained-s0"), load_model("chgnet-untrained-s1")
    assert again.fingerprint == models["chgnet-untrained-s0"].fingerprint
    assert other.fingerprint != again.fingerprint
    assert (
        load_model("mace-untrained-s3").fingerprint != load_model("mace-untrained-s4").fingerprint
    )


def test_drawing_a_twin_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model("mace-untrained-s0")
    assert torch.equal(torch.rand(1), expected)


def test_unknown_names_and_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match="no model of that name"):
        load_model("chgnet-9.9.9")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="ends in"):
        load_model(tmp_path / "weights.bin")


def test_a_pickled_file_needs_trust(tmp_path, models):
    path = tmp_path / "mine.model"
    torch.save(models["book-mace-mptrj"].network, path)
    with pytest.raises(InputError, match="--trust"):
        load_model(path)
    assert load_model(path, trust=True).fingerprint == models["book-mace-mptrj"].fingerprint


def test_pickled_code_in_a_chgnet_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"model": Bomb()}, tmp_path / "bad.pth.tar")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_model(tmp_path / "bad.pth.tar")
    assert not (tmp_path / "exploded").exists()


def test_a_broken_or_cardless_safetensors_is_refused(tmp_path):
    source = DATA / list_models()["book-mace-mptrj"]["file"]
    shutil.copy(source, tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match="card"):
        load_model(tmp_path / "alone.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(source.read_bytes()[:1000])
    shutil.copy(source.with_suffix(".json"), tmp_path / "torn.json")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_model(tmp_path / "torn.safetensors")


def test_a_changed_checkpoint_of_the_catalogue_is_refused(monkeypatch):
    entry = {**list_models()["chgnet-0.3.0"], "sha256": "0" * 64}
    changed = {**registry("models"), "chgnet-0.3.0": entry}
    monkeypatch.setattr("umlip_latents.models.catalog.registry", lambda _: changed)
    with pytest.raises(InputError, match="the registry expects"):
        load_model("chgnet-0.3.0")


def test_a_chgnet_file_loads_by_path(models):
    found = load_model(packaged_file(list_models()["chgnet-0.3.0"]["file"]))
    assert found.fingerprint == models["chgnet-0.3.0"].fingerprint


def test_a_saved_mace_is_the_same_mace(tmp_path, models, crystals):
    import json

    card = json.loads((DATA / "checkpoints" / "book-mace-mptrj.json").read_text())
    network = build_network(card, seed=11)
    save_network(network, tmp_path / "new.safetensors", {"name": "new", "note": "kept"})
    again = load_model(tmp_path / "new.safetensors")
    assert json.loads((tmp_path / "new.json").read_text())["note"] == "kept"
    from umlip_latents.models.mace import MaceModel

    one = extract_features(crystals, MaceModel(network, "new"), "last", progress=False).features
    other = extract_features(crystals, again, "last", progress=False).features
    assert np.array_equal(one, other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.json", "new.safetensors"]


def test_mace_with_vector_features_gives_only_scalars(tmp_path, crystals):
    import json

    card = json.loads((DATA / "checkpoints" / "book-mace-mptrj.json").read_text())
    card["architecture"]["hidden_irreps"] = "16x0e + 16x1o"
    from umlip_latents.analysis import invariance_deviations
    from umlip_latents.models.mace import MaceModel

    model = MaceModel(build_network(card), "vectors")
    assert model.widths == {"backbone": 32, "last": 32}
    for operation, deviation in invariance_deviations(model, crystals).items():
        assert deviation < 1e-4, operation
