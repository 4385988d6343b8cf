"""Features that ship: what is written is read, to half precision, and found by who asks for it."""

import numpy as np
import pytest

from umlip_latents import (
    Features,
    InputError,
    extract_features,
    load_features,
    load_model,
    load_structures,
)
from umlip_latents.features import shipped
from umlip_latents.resources import registry

TINY = ("chgnet-0.3.0", "mini-mace-mptrj", "symmetry-functions")


@pytest.fixture
def table():
    """Features whose columns differ in size by many orders of magnitude, one of them constant."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) * 10.0 ** np.arange(-6, 6, 2) + 3
    x[:, 2] = 5
    numbers, n_atoms = np.repeat([8, 14], 100), np.full(50, 4)
    about = {"model": "m", "layer": "backbone", "fingerprint": "f", "structures": "s"}
    x = x.astype(np.float32)
    return Features(x, n_atoms, numbers, np.arange(50) * 2, {1: "no"}, **about)


@pytest.mark.parametrize("half", [True, False])
def test_what_is_written_is_read(table, tmp_path, monkeypatch, half):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    (tmp_path / "d").mkdir()
    shipped.write_shipped(tmp_path / "d" / "m-backbone.npz", table, {"licence": "MIT"}, half=half)
    found = shipped.read_shipped("d", "m", "backbone")
    spread = table.features.std(axis=0) + 1e-30
    off = np.abs(found.features - table.features) / (np.abs(table.features) + spread)
    assert off.max() <= (2**-10 if half else 0)
    for name in ("n_atoms", "numbers", "kept", "dropped", *shipped.TEXTS):
        assert np.all(getattr(found, name) == getattr(table, name)), name
    about = shipped.read_about(tmp_path / "d" / "m-backbone.npz")
    assert about == {"licence": "MIT"}


@pytest.mark.parametrize("dataset", ["alexandria-random-1k", "embedded-third"])
def test_every_file_that_ships_is_whole_and_says_where_it_comes_from(dataset):
    entry = registry("datasets")[dataset]
    models = shipped.shipped_models(dataset)
    assert len(models) > 20
    for file in (shipped.FOLDER / dataset).glob("*.npz"):
        assert file.stat().st_size < 2e6, file.name
        about = shipped.read_about(file)
        assert {"versions", "commit", "licences", "citations"} <= {*about}
    for model in models:
        found = shipped.read_shipped(dataset, model, "backbone")
        assert found.structures == entry["fingerprint"], model
        assert found.model == model
        assert len(found.kept) + len(found.dropped) == entry["structures"], model
        assert np.isfinite(found.features).all(), model


@pytest.mark.parametrize("model", TINY)
def test_a_sample_extracted_anew_is_what_ships(model, tmp_path):
    structures = load_structures("embedded-third")
    old = shipped.read_shipped("embedded-third", model, "backbone")
    sample = range(0, len(structures), 16)
    new = extract_features([structures[i] for i in sample], model, store=tmp_path, progress=False)
    kept = [i for i in sample if i in old.kept]
    assert [sample[i] for i in new.kept] == kept
    spread = old.features.std(axis=0) + 1e-12
    assert np.abs((new.features - old.select(np.array(kept)).features) / spread).max() < 0.02


def test_the_same_features_come_shipped_stored_and_extracted(tmp_path, capsys):
    asked = ["element", "chgnet-0.3.0"]
    found = load_features("embedded-third", asked)
    assert [f.origin for f in found.values()] == ["ships with the package"] * 2
    assert [*found] == asked
    structures = load_structures("embedded-third")
    whole = extract_features(structures, "element")
    assert whole.origin == "ships with the package"  # by the fingerprints of both
    few = structures[:5]
    first = load_features(few, asked, store=tmp_path, progress=False)
    again = load_features(few, [*asked, "no-such-model"], store=tmp_path, progress=False)
    assert {f.origin for f in first.values()} == {"extracted"}
    assert all(f.origin.startswith("stored in") for f in again.values())
    assert "no-such-model is left out: " in capsys.readouterr().err
    for name in asked:
        part = found[name].select(np.arange(5)).features
        assert first[name].features == pytest.approx(part, abs=2e-2)
        assert np.array_equal(first[name].features, again[name].features)


def test_a_model_of_ones_own_does_not_hide_a_published_one_of_its_name(tmp_path):
    structures = load_structures("embedded-third")
    mine = load_model("symmetry-functions")
    mine.name, mine.fingerprint = "element", "mine"
    found = load_features("embedded-third", ["element", mine], store=tmp_path, progress=False)
    assert [f.features.shape[1] for f in found.values()] == [118, 166]
    assert len(structures) == len(found["element (2)"].kept)


def test_no_model_at_all_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no-such-model"):
        load_features("embedded-third", ["no-such-model"], store=tmp_path)
    with pytest.raises(InputError, match="no-such-data"):
        load_features("no-such-data", "element", store=tmp_path)
    with pytest.raises(TypeError, match="layers"):  # or those of the backbone would come
        load_features("embedded-third", "element", layers="last")
