"""Structures through a model to per-atom latent features: batched by size, resumable."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from ase import Atoms
from tqdm.auto import tqdm

from .environments import RemoteModel
from .models.base import LAYERS, LatentModel, Unsupported
from .models.catalog import load_model
from .resources import InputError, written_whole
from .store import FeatureStore
from .structures import fingerprint

BLOCK = 128  # structures that are stored, and resumed, together
# Edges in one forward pass. More do not fit the processor's cache: with 40,000 an edge takes MACE
# twice as long. What is too much for the memory is halved (`forward`).
BATCH_SIZE = 6_000
ABOUT = ("kept", "n_atoms", "numbers")  # what a block holds beside its layers


@dataclass
class Features:
    """Latent features of the atoms of several structures.

    Attributes
    ----------
    features
        (n_atoms, width), the atoms of one structure after the other.
    n_atoms
        (n_structures,) atoms of each kept structure.
    numbers
        (n_atoms,) atomic numbers.
    kept
        (n_structures,) index of each kept structure in the input.
    dropped
        Index in the input, and why the model refused that structure.
    """

    features: np.ndarray
    n_atoms: np.ndarray
    numbers: np.ndarray
    kept: np.ndarray
    dropped: dict[int, str] = field(default_factory=dict)
    model: str = ""
    layer: str = ""

    @property
    def structure(self) -> np.ndarray:
        """(n_atoms,) input index of the structure that each atom belongs to."""
        return np.repeat(self.kept, self.n_atoms)

    def select(self, kept: np.ndarray) -> Features:
        """Only the structures whose input index is in `kept`."""
        mask = np.isin(self.kept, kept)
        atoms = np.repeat(mask, self.n_atoms)
        return replace(
            self,
            features=self.features[atoms],
            n_atoms=self.n_atoms[mask],
            numbers=self.numbers[atoms],
            kept=self.kept[mask],
        )

    def save(self, path: str | Path) -> None:
        """Write an NPZ file with `features`, `n_atoms`, `numbers`, `kept`, and what they are."""
        save_npz(
            path,
            features=self.features,
            n_atoms=self.n_atoms,
            numbers=self.numbers,
            kept=self.kept,
            model=np.array(self.model),
            layer=np.array(self.layer),
        )

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read a file that `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as data:
                names = ("features", "n_atoms", "numbers", "kept")
                arrays = {name: data[name] for name in names}
                model = str(data["model"]) if "model" in data else Path(path).stem
                layer = str(data["layer"]) if "layer" in data else ""
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: is not a file of extracted features ({error}).") from None
        if arrays["n_atoms"].sum() != len(arrays["features"]):
            raise InputError(f"{path}: n_atoms does not add up to the rows of features.")
        return cls(**arrays, model=model, layer=layer)


def save_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Write an NPZ file, whole or not at all."""
    try:
        with written_whole(Path(path)) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


def extract_features(
    structures: Sequence[Atoms],
    model: str | Path | LatentModel,
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    progress: bool = True,
) -> Features:
    """Latent features of every atom of every structure that the model accepts.

    One forward pass on the energy path gives all layers; no forces are computed.

    Parameters
    ----------
    structures
        Any sequence of `ase.Atoms`.
    model
        A name or file for `load_model`, or a model object.
    layer
        ``"backbone"`` (after the last interaction), ``"last"`` (input of the final linear maps) or
        another one that the model offers, such as ``"interaction-1"``.
    store
        Folder in which all layers are kept, so that an interrupted run goes on where it stopped
        and a repeated one only reads.
    progress
        Show a progress bar.

    Returns
    -------
    Features
        float32, as the models compute; structures that the model refuses are named in `dropped`.

    Raises
    ------
    InputError
        A layer that the model lacks, or no structure at all that it accepts.

    Examples
    --------
    >>> from ase.build import bulk
    >>> found = extract_features([bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)], "element")
    >>> found.features.shape, found.n_atoms.tolist()
    ((3, 118), [1, 2])
    """
    model = load_model(model) if isinstance(model, str | Path) else model
    if isinstance(model, RemoteModel):
        return extracted_remotely(structures, model, layer, store, progress)
    if layer not in model.widths:
        raise InputError(f"{layer}: no such layer, {model.name} has {', '.join(model.widths)}.")
    blocks = None if store is None else feature_store(structures, model, store)
    parts = []
    with progress_bar(structures, model, progress) as bar:
        for number, start in enumerate(range(0, len(structures), BLOCK)):
            block = structures[start : start + BLOCK]
            if blocks is not None and number in blocks:
                part = blocks.read(number, (layer, *ABOUT))
            else:
                part = extract_block(block, model, start)
                if blocks is not None:
                    blocks.write(number, *part)
            parts.append(part)
            bar.update(len(block))
    return joined(parts, model.name, layer)


def extracted_remotely(
    structures: Sequence[Atoms],
    model: RemoteModel,
    layer: str,
    store: str | Path | None,
    progress: bool,
) -> Features:
    """Have the model's own Python fill a store, a passing one if none is named, and read it."""
    if store is None:
        with tempfile.TemporaryDirectory() as folder:
            return extracted_remotely(structures, model, layer, folder, progress)
    blocks = feature_store(structures, model, store)
    numbers = range(-(-len(structures) // BLOCK))
    with progress_bar(structures, model, progress) as bar:

        def show_stored() -> None:
            n_stored = BLOCK * sum(number in blocks for number in numbers)
            bar.update(min(len(structures), n_stored) - bar.n)

        if not all(number in blocks for number in numbers):
            model.extract(structures, layer, Path(store), show_stored)
        show_stored()
    parts = [blocks.read(number, (layer, *ABOUT)) for number in numbers]
    return joined(parts, model.name, layer)


def progress_bar(structures: Sequence[Atoms], model: LatentModel, shown: bool) -> tqdm:
    """One step a structure."""
    return tqdm(total=len(structures), desc=model.name, unit="structure", disable=not shown)


def joined(
    parts: Sequence[tuple[dict[str, np.ndarray], dict[str, str]]], name: str, layer: str
) -> Features:
    """The features of all blocks, one after the other."""
    dropped = {int(index): why for _, refused in parts for index, why in refused.items()}
    if sum(len(arrays["kept"]) for arrays, _ in parts) == 0:
        why = next(iter(dropped.values()), "there is none")
        raise InputError(f"{name}: no structure left to extract features from ({why}).")
    whole = {key: np.concatenate([a[key] for a, _ in parts]) for key in (layer, *ABOUT)}
    return Features(
        whole[layer], whole["n_atoms"], whole["numbers"], whole["kept"], dropped, name, layer
    )


def features_by_name(
    structures: Sequence[Atoms],
    models: Sequence[str | Path | LatentModel],
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    progress: bool = True,
) -> tuple[dict[str, Features], dict[str, str]]:
    """Features of several models, and of the others why they cannot be had.

    Parameters
    ----------
    structures, layer, store, progress
        As in `extract_features`.
    models
        Names, files or model objects.

    Returns
    -------
    features : dict
        By the name that the model goes by.
    missing : dict
        What was asked for, and a sentence that says why there are no features of it.

    Raises
    ------
    InputError
        There are none at all.

    Examples
    --------
    >>> from ase.build import bulk
    >>> features, missing = features_by_name([bulk("Cu")], ["element", "no-such-model"])
    >>> list(features), list(missing)
    (['element'], ['no-such-model'])
    """
    features: dict[str, Features] = {}
    missing: dict[str, str] = {}
    for model in models:
        try:
            found = extract_features(structures, model, layer, store=store, progress=progress)
        except InputError as error:
            missing[str(getattr(model, "name", model))] = str(error)
        else:
            features[found.model] = found
    if not features:
        raise InputError(" ".join(["There are no features.", *missing.values()]))
    return features, missing


def features_by_layer(
    structures: Sequence[Atoms],
    model: str | Path | LatentModel,
    *,
    store: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Features]:
    """Every layer of a model: ``interaction-1`` and so on where it has them, backbone, last.

    Parameters
    ----------
    structures, model, store, progress
        As in `extract_features`.

    Examples
    --------
    >>> from ase.build import bulk
    >>> list(features_by_layer([bulk("Cu")], "element"))
    ['backbone', 'last']
    """
    model = load_model(model) if isinstance(model, str | Path) else model
    options = {"store": store, "progress": progress}
    ends = {layer: extract_features(structures, model, layer, **options) for layer in LAYERS}
    steps: dict[str, Features] = {}
    while True:
        layer = f"interaction-{len(steps) + 1}"
        try:  # only its own Python knows how many a remote model has
            steps[layer] = extract_features(structures, model, layer, **options)
        except InputError:
            return steps | ends


def feature_store(
    structures: Sequence[Atoms], model: LatentModel, store: str | Path
) -> FeatureStore:
    """Where the features of these structures by this model are kept."""
    mark = fingerprint(structures)
    folder = Path(store) / f"{model.name}-{model.fingerprint[:8]}-{mark[:8]}.zarr"
    provenance = {"model": model.name, "fingerprint": model.fingerprint, "structures": mark}
    return FeatureStore(folder, provenance)


class FeatureBlocks(Sequence):
    """Stored features of several models, a block at a time, of the structures that all accept.

    What `streaming_gfre` reads. Only the block that is asked for is in memory.

    Parameters
    ----------
    structures, models, layer, store
        As `extract_features` was given them, once for every model.
    """

    def __init__(
        self,
        structures: Sequence[Atoms],
        models: Sequence[str | LatentModel],
        layer: str,
        store: str | Path,
    ) -> None:
        loaded = [load_model(m) if isinstance(m, str | Path) else m for m in models]
        self.layer = layer
        self.stores = {m.name: feature_store(structures, m, store) for m in loaded}
        self.length = -(-len(structures) // BLOCK)
        for name, blocks in self.stores.items():
            if not all(number in blocks for number in range(self.length)):
                raise InputError(
                    f"{name}: its features are not all in {store}, extract them first."
                )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """Name to (n_atoms, width)."""
        if not 0 <= number < self.length:
            raise IndexError(number)
        names = (self.layer, "kept", "n_atoms")
        parts = {name: store.read(number, names)[0] for name, store in self.stores.items()}
        common = reduce(np.intersect1d, (p["kept"] for p in parts.values()))
        return {
            name: p[self.layer][np.repeat(np.isin(p["kept"], common), p["n_atoms"])]
            for name, p in parts.items()
        }

    def n_atoms(self) -> list[np.ndarray]:
        """(n_structures,) atoms of each kept structure, block by block."""
        found = []
        for number in range(self.length):
            parts = [s.read(number, ("kept", "n_atoms"))[0] for s in self.stores.values()]
            common = reduce(np.intersect1d, (p["kept"] for p in parts))
            found.append(parts[0]["n_atoms"][np.isin(parts[0]["kept"], common)])
        return found


def extract_block(
    block: Sequence[Atoms], model: LatentModel, start: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All layers of a few structures, in their order, and the refused ones."""
    graphs: dict[int, Any] = {}
    refused: dict[str, str] = {}
    for index, atoms in enumerate(block):
        try:
            graphs[index] = model.prepare(atoms)
        except Unsupported as error:
            refused[str(start + index)] = str(error)
    results: dict[int, dict[str, np.ndarray]] = {}
    for batch in packed({i: model.size(g) for i, g in graphs.items()}, BATCH_SIZE):
        layers = forward(model, [graphs[i] for i in batch])
        ends = np.cumsum([len(block[i]) for i in batch])[:-1]
        split = {layer: np.split(array, ends) for layer, array in layers.items()}
        for position, index in enumerate(batch):
            results[index] = {layer: split[layer][position] for layer in model.widths}
    kept = sorted(results)
    arrays = {
        layer: np.concatenate(
            [np.empty((0, width), np.float32), *(results[i][layer] for i in kept)]
        )
        for layer, width in model.widths.items()
    }
    arrays["kept"] = np.array([start + i for i in kept], dtype=np.int64)
    arrays["n_atoms"] = np.array([len(block[i]) for i in kept], dtype=np.int64)
    numbers = [block[i].numbers.astype(np.int64) for i in kept]
    arrays["numbers"] = np.concatenate([np.empty(0, np.int64), *numbers])
    return arrays, refused


def forward(model: LatentModel, graphs: Sequence[Any]) -> dict[str, np.ndarray]:
    """Features of a batch, in two halves if the memory does not hold it."""
    try:
        return model.features(graphs)
    except (MemoryError, RuntimeError) as error:
        # PyTorch reports a full memory as a RuntimeError on the processor, too
        full = isinstance(error, MemoryError) or "memory" in str(error).lower()
        if not full or len(graphs) == 1:
            raise
    half = len(graphs) // 2
    parts = [forward(model, graphs[:half]), forward(model, graphs[half:])]
    return {layer: np.concatenate([part[layer] for part in parts]) for layer in model.widths}


def packed(sizes: dict[int, int], budget: int) -> Iterator[list[int]]:
    """Group indices, largest size first, so that no group is over budget unless it is alone."""
    batch: list[int] = []
    load = 0
    for index in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if batch and load + sizes[index] > budget:
            yield batch
            batch, load = [], 0
        batch.append(index)
        load += sizes[index]
    if batch:
        yield batch


def common_structures(features: Sequence[Features]) -> list[Features]:
    """The same features on the structures that every model accepts.

    Examples
    --------
    >>> def model(kept):
    ...     return Features(np.zeros((2, 1)), np.ones(2, int), np.ones(2, int), np.array(kept))
    >>> [f.kept.tolist() for f in common_structures([model([0, 1]), model([1, 2])])]
    [[1], [1]]
    """
    kept = features[0].kept
    for other in features[1:]:
        kept = np.intersect1d(kept, other.kept)
    if len(kept) == 0:
        raise InputError("No structure is accepted by every compared model.")
    return [f.select(kept) for f in features]
