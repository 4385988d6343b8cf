"""Damaged and invented files: a reader says what is wrong in one sentence, or reads what was there.

What is accepted although a byte of it has changed must be what it was before.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.io import write
from chgnet.model import CHGNet
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from umlip_latents import (
    Features,
    extract_features,
    list_datasets,
    list_models,
    load_model,
    load_structures,
    resources,
)
from umlip_latents.models.baseline import ElementModel
from umlip_latents.resources import DATA, InputError
from umlip_latents.training import read_recipe

from .test_laws import CRYSTALS

PLACES = st.floats(0, 1, exclude_max=True)
# numbers stay small: a network of a billion channels is refused by the memory, not by the reader
PLAIN = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(-2, 3) | st.text(max_size=6)
VALUES = PLAIN | st.just(np.nan) | st.lists(PLAIN, max_size=3)
VALUES |= st.dictionaries(st.text(max_size=6), PLAIN, max_size=3)


DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "lose", "cut", "insert", "overwrite"]),
        *(PLACES, PLACES),
        st.integers(0, 7),
        st.binary(min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=3,
)
# for what takes a second
FEW = settings(max_examples=settings.default.max_examples // 3)


def damaged(content: bytes, damage: list[tuple]) -> bytes:
    """Content of which some places are changed, lost, cut off or grown."""
    data = bytearray(content)
    for kind, *ends, bit, new in damage:
        at, stop = sorted(int(end * (len(data) + 1)) for end in ends)
        match kind:
            case "flip" if at < len(data):
                data[at] ^= 1 << bit
            case "lose":
                del data[at:stop]
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = new
            case "overwrite":
                data[at : at + len(new)] = new
    assume(data != content)
    return bytes(data)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths to everything inside of nested lists and mappings."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


@st.composite
def edited(draw, value: Any) -> Any:
    """Nested plain values of which one is replaced, renamed, removed or added."""
    if draw(st.integers(0, 19)) == 0:
        return draw(VALUES)
    value = copy.deepcopy(value)
    *path, key = draw(st.sampled_from(list(places(value))))
    parent = value
    for step in path:
        parent = parent[step]
    old = parent.pop(key)
    kind = draw(st.sampled_from(["replace", "remove", "rename"]))
    if kind == "replace":
        new = draw(VALUES)
        parent.insert(key, new) if isinstance(parent, list) else parent.update({key: new})
    elif kind == "rename" and isinstance(parent, dict):
        parent[draw(st.text(max_size=6))] = old
    return value


def read(reader: Callable[[Path], Any], path: Path, content: bytes | None = None) -> Any:
    """What a reader gives; None where it refuses in a sentence that names the file or its card."""
    if content is not None:
        path.write_bytes(content)
    try:
        return reader(path)
    except InputError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1, sentence
    assert path.name.partition(".")[0] in sentence
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder whose files are overwritten by every example."""
    return tmp_path_factory.mktemp("readers")


def same_features(found: Features, expected: Features) -> bool:
    """Whether two have the same numbers and say that they are of the same model."""
    names = ("features", "n_atoms", "numbers", "kept", "model", "layer")
    return all(np.array_equal(getattr(found, n), getattr(expected, n)) for n in names)


@pytest.fixture(scope="module")
def features(folder) -> tuple[Features, bytes]:
    """Features and the file that holds them."""
    found = extract_features(CRYSTALS, ElementModel(), "last", progress=False)
    found.save(folder / "whole.npz")
    return found, (folder / "whole.npz").read_bytes()


@given(data=st.data())
def test_a_damaged_file_of_features_is_refused_or_read_as_it_was(data, folder, features):
    expected, content = features
    found = read(Features.load, folder / "f.npz", damaged(content, data.draw(DAMAGE)))
    assert found is None or same_features(found, expected)


KINDS = st.sampled_from(["float64", "int64", "bool", "complex128", "U3", "object"])
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(st.dictionaries(st.sampled_from(["features", "n_atoms", "numbers", "kept", "model"]),
                       st.tuples(KINDS, SHAPES, st.integers(-2, 3)), min_size=1))  # fmt: skip
def test_a_file_of_other_arrays_is_refused_or_makes_sense(folder, features, changes):
    expected, _ = features
    arrays = {n: getattr(expected, n) for n in ("features", "n_atoms", "numbers", "kept", "model")}
    for name, (kind, shape, value) in changes.items():
        arrays[name] = np.full(shape, value).astype(kind)
    np.savez(folder / "other.npz", **arrays)
    found = read(Features.load, folder / "other.npz")
    if found is not None:
        assert found.features.ndim == 2
        assert found.features.dtype.kind == "f"
        assert np.isfinite(found.features).all()
        assert (found.n_atoms > 0).all()
        assert found.n_atoms.sum() == len(found.numbers) == len(found.features)
        assert len(found.kept) == len(found.n_atoms)
        for array in (found.n_atoms, found.numbers, found.kept):
            assert array.ndim == 1
            assert array.dtype.kind in "iu"


@pytest.fixture(scope="module")
def store(folder) -> tuple[Features, Path]:
    """Features and a store of them."""
    found = extract_features(CRYSTALS, ElementModel(), store=folder / "store", progress=False)
    return found, folder / "store"


@given(data=st.data())
def test_a_damaged_store_is_refused_or_mended(data, folder, store):
    expected, whole = store
    harmed = folder / "harmed"
    shutil.rmtree(harmed, ignore_errors=True)
    shutil.copytree(whole, harmed)
    files = sorted(path for path in harmed.rglob("*") if path.is_file() and path.stat().st_size)
    one, other = data.draw(st.lists(st.sampled_from(files), min_size=2, max_size=2, unique=True))
    match data.draw(st.sampled_from(["damage", "delete", "swap", "copy", "delete the folder"])):
        case "damage":
            one.write_bytes(damaged(one.read_bytes(), data.draw(DAMAGE)))
        case "delete":
            one.unlink()
        case "swap":
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)
        case "copy":
            one.write_bytes(other.read_bytes())
        case "delete the folder":
            shutil.rmtree(one.parent)

    def extract(store: Path) -> Features:
        return extract_features(CRYSTALS, ElementModel(), store=store, progress=False)

    for _ in "12":
        found = read(extract, harmed)
        assert found is None or same_features(found, expected)


RECIPE = read_recipe(DATA / "recipes" / "mini-mace-base-s1.json")


@given(data=st.data())
def test_a_damaged_recipe_is_refused_or_whole(data, folder):
    content = json.dumps(RECIPE).encode()
    if data.draw(st.booleans()):
        content = damaged(content, data.draw(DAMAGE))
    else:
        content = json.dumps(data.draw(edited(RECIPE))).encode()
    found = read(read_recipe, folder / "recipe.json", content)
    if found is not None:
        assert isinstance(found, dict)
        assert isinstance(found["mace"], dict)
        assert found["held_out"] >= 1
        assert found["validation"] >= 1


CHECKPOINT = DATA / "checkpoints" / "mini-mace-base-s0.safetensors"


@pytest.fixture(scope="module")
def crystal_features(models) -> np.ndarray:
    """What the undamaged checkpoint says about a crystal."""
    return of_crystal(models[CHECKPOINT.stem])


def of_crystal(model) -> np.ndarray:
    return extract_features([bulk("NaCl", "rocksalt", a=5.64)], model, progress=False).features


@FEW
@given(data=st.data())
def test_damaged_weights_are_refused(data, folder):
    shutil.copy(CHECKPOINT.with_suffix(".json"), folder / "mini.json")
    content = damaged(CHECKPOINT.read_bytes(), data.draw(DAMAGE))
    assert read(load_model, folder / "mini.safetensors", content) is None


@FEW
@given(data=st.data())
def test_an_edited_card_is_refused_or_another_model_or_changes_nothing(
    data, folder, models, crystal_features
):
    card = json.loads(CHECKPOINT.with_suffix(".json").read_text())
    inner = edited(card["architecture"]).map(lambda a: {**card, "architecture": a})
    new = data.draw(inner | edited(card))
    path = folder / "card.safetensors"
    shutil.copy(CHECKPOINT, path)
    path.with_suffix(".json").write_text(json.dumps(new))
    model = read(load_model, path)
    if model is None or model.fingerprint != models[CHECKPOINT.stem].fingerprint:
        return
    assert np.array_equal(of_crystal(model), crystal_features)


@FEW
@given(data=st.data())
def test_a_damaged_card_is_refused_or_changes_nothing(data, folder, models, crystal_features):
    path = folder / "bytes.safetensors"
    shutil.copy(CHECKPOINT, path)
    content = CHECKPOINT.with_suffix(".json").read_bytes()
    path.with_suffix(".json").write_bytes(damaged(content, data.draw(DAMAGE)))
    model = read(load_model, path)
    if model is None or model.fingerprint != models[CHECKPOINT.stem].fingerprint:
        return
    assert np.array_equal(of_crystal(model), crystal_features)


@pytest.fixture(scope="module")
def chgnet_file(folder) -> bytes:
    """A small CHGNet as its own trainer writes it."""
    sizes = {"atom_fea_dim": 8, "bond_fea_dim": 8, "angle_fea_dim": 8, "n_conv": 2}
    network = CHGNet(**sizes, mlp_hidden_dims=8, num_radial=5, num_angular=5)
    torch.save({"model": network.as_dict()}, folder / "whole.pth.tar")
    return (folder / "whole.pth.tar").read_bytes()


@given(data=st.data())
def test_a_damaged_chgnet_is_refused_or_another_model(data, folder, chgnet_file):
    expected = read(load_model, folder / "whole.pth.tar")
    found = read(load_model, folder / "harmed.pth.tar", damaged(chgnet_file, data.draw(DAMAGE)))
    if found is not None and found.fingerprint == expected.fingerprint:
        assert np.array_equal(of_crystal(found), of_crystal(expected))


def registry_of(name: str, path: Path) -> dict:
    """A registry of the folder of a file, as every command reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "DATA", path.parent)
        resources.registry.cache_clear()
        try:
            return {"models": list_models, "datasets": list_datasets}[name]()
        finally:
            resources.registry.cache_clear()


@pytest.mark.parametrize("name", ["models", "datasets"])
@FEW
@given(data=st.data())
def test_a_damaged_registry_is_refused_or_describes_every_entry(data, folder, name):
    content = (DATA / f"{name}.yaml").read_bytes()
    if data.draw(st.booleans()):
        content = damaged(content, data.draw(DAMAGE))
    else:
        content = yaml.safe_dump(data.draw(edited(yaml.safe_load(content)))).encode()
    found = read(partial(registry_of, name), folder / f"{name}.yaml", content)
    if found is not None:
        assert all(isinstance(key, str) for key in found)
        needed = {"models": ["family", "offline"], "datasets": ["description", "licence"]}[name]
        assert all(key in entry for entry in found.values() for key in needed)


@pytest.mark.parametrize("ending", ["xyz", "cif", "vasp", "json", "db", "traj", "xsf", "cfg"])
@given(data=st.data())
def test_a_damaged_file_of_structures_is_refused_or_gives_structures(data, folder, ending):
    whole = folder / f"whole.{ending}"
    if not whole.is_file():
        write(whole, CRYSTALS[1])
    found = read(
        load_structures, folder / f"s.{ending}", damaged(whole.read_bytes(), data.draw(DAMAGE))
    )
    for atoms in found or []:
        assert len(atoms) > 0
        assert np.isfinite(atoms.positions).all()
        assert np.isfinite(atoms.cell.array).all()
        assert (atoms.numbers > 0).all()


READERS = {
    "f.npz": Features.load,
    "recipe.json": read_recipe,
    "own.pth.tar": load_model,
    "own.safetensors": load_model,
    "own.model": partial(load_model, trust=True),
    "models.yaml": partial(registry_of, "models"),
    **{f"s.{ending}": load_structures for ending in ("xyz", "cif", "vasp", "traj", "db", "dat")},
}


@pytest.mark.parametrize("file", READERS)
@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_refused(file, folder, content):
    (folder / "any").mkdir(exist_ok=True)
    if file == "own.safetensors":
        shutil.copy(CHECKPOINT.with_suffix(".json"), folder / "any" / "own.json")
    assert read(READERS[file], folder / "any" / file, content) is None
