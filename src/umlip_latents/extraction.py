"""Structures through a model to per-atom latent features: batched by size, resumable."""

import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache, partial, reduce
from itertools import count
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from ase import Atoms
from tqdm import tqdm

from .features import Features
from .models.base import LAYERS, LatentModel, Unsupported
from .models.catalog import catalogue_entry, load_model
from .models.remote import RemoteModel
from .resources import InputError, at_least
from .store import FeatureStore
from .structures import check_structure, fingerprint
from .workers import can_fork, side_by_side

BLOCK = 128  # structures that are stored, and resumed, together
# Edges in one forward pass. More do not fit the processor's cache: with 40,000 an edge takes MACE
# twice as long. What is too much for the memory is halved (`forward`).
BATCH_SIZE = 6_000
ABOUT = ("n_atoms", "numbers", "kept")  # what a block holds beside its layers
Task = tuple[int, int, Sequence[Atoms]]  # number, index of the first structure, and its structures


def extract_features(
    structures: Sequence[Atoms],
    model: str | Path | LatentModel,
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    workers: int | None = None,
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
        and a repeated one only reads; by default one that is deleted again.
    workers
        Processes of one thread each that share the blocks of 128 structures that are not stored
        yet; by default as many as there are cores to use, by affinity and control group. The
        features do not depend on it. With one, or where processes cannot be forked safely, which
        is everywhere but on Linux, this process does it all, with the threads that PyTorch has.
    progress
        Show a progress bar.

    Returns
    -------
    Features
        float32, as the models compute; structures that the model refuses, or of which it gives
        features that are not finite, are named in `dropped`.

    Raises
    ------
    InputError
        Fewer than one worker, a layer that the model lacks, no structure at all that it accepts,
        or one that makes no sense (`structures.check_structure`).

    Examples
    --------
    >>> from ase.build import bulk
    >>> found = extract_features([bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)], "element")
    >>> found.features.shape, found.n_atoms.tolist()
    ((3, 118), [1, 2])
    """
    if store is None:
        with tempfile.TemporaryDirectory() as folder:
            options = {"store": folder, "workers": workers, "progress": progress}
            return extract_features(structures, model, layer, **options)
    at_least(1, workers=workers)
    model = loaded(model)
    remote = isinstance(model, RemoteModel)
    if layer not in model.widths and not remote:  # a remote model's own Python knows all its layers
        raise InputError(f"{layer}: no such layer, {model.name} has {', '.join(model.widths)}.")
    blocks = feature_store(structures, model, store)
    names, numbers = (layer, *ABOUT), range(n_blocks(structures))
    parts = {n: part for n in numbers if (part := blocks.sound(n, names))}
    missing = missing_blocks(structures, parts)
    with tqdm(desc=model.name, unit="structure", disable=not progress) as bar:
        # a second process waits, and finds what the first one, or the Python that it asks, stored
        alone = blocks.writing(".asking" if remote else ".lock") if missing else nullcontext()
        with alone:
            left = [task for task in missing if not blocks.sound(task[0], names)]
            for number, *_ in left:
                blocks.discard(number)
            bar.reset(sum(len(block) for *_, block in left))
            if left and remote:
                see = lambda n: bar.update(n - bar.n)  # noqa: E731
                model.extract(structures, layer, Path(store), see, workers)
            elif left:
                fill(blocks, model, left, workers, bar.update)
    parts |= {number: blocks.read(number, names) for number, *_ in missing}
    arrays, refused = zip(*(parts[n] for n in numbers), strict=True) if parts else ((), ())
    dropped = {int(index): why for one in refused for index, why in one.items()}
    if not any(len(one["kept"]) for one in arrays):
        why = next(iter(dropped.values()), "there is none")
        raise InputError(f"{model.name}: no structure left to extract features from ({why}).")
    whole = (np.concatenate([one[key] for one in arrays]) for key in names)
    identities = model.fingerprint, blocks.provenance["structures"]
    return Features(*whole, dropped, model.name, layer, *identities)


def fill(
    blocks: FeatureStore,
    model: LatentModel,
    missing: Sequence[Task],
    workers: int | None,
    watch: Callable[[int], Any],
) -> None:
    """Compute and store blocks, side by side where the model allows it."""
    store = partial(write_block, blocks, model)
    n_workers = min(workers or joblib.cpu_count(), len(missing))
    if n_workers > 1 and can_fork() and getattr(model, "forks", False):
        by_size = sorted(missing, key=lambda task: sum(map(len, task[2])), reverse=True)
        side_by_side(store, by_size, n_workers, watch)
        missing = [task for task in missing if task[0] not in blocks]
    for task in missing:
        store(task, watch)


def write_block(
    blocks: FeatureStore, model: LatentModel, task: Task, watch: Callable[[int], Any] = bool
) -> None:
    """One block, unless somebody has finished it since."""
    number, start, block = task
    if number not in blocks:
        blocks.write(number, *extract_block(block, model, start, watch))


def loaded(model: str | Path | LatentModel) -> LatentModel | RemoteModel:
    """The model of a name or file, or the one that it is already."""
    if not isinstance(model, str | Path):
        return model
    return registered(model) if catalogue_entry(str(model)) else load_model(model)


# A MACE takes as long to build as to read a few hundred structures, and another layer is asked for
# soon. Nobody else gets these, so that nobody trains on; files may change and are read anew.
registered = lru_cache(64)(load_model)


def n_blocks(structures: Sequence[Atoms]) -> int:
    """How many blocks hold the structures."""
    return -(-len(structures) // BLOCK)


def missing_blocks(structures: Sequence[Atoms], blocks: Container[int]) -> list[Task]:
    """Number, index of the first structure, and structures of each block that is not stored.

    Raises `InputError` if a structure in these cannot be computed.
    """
    starts = range(0, len(structures), BLOCK)
    found = [(n, i, structures[i : i + BLOCK]) for n, i in enumerate(starts) if n not in blocks]
    for _, start, block in found:
        for index, atoms in enumerate(block, start):
            check_structure(atoms, f"structure {index}")
    return found


def features_by_name(
    structures: Sequence[Atoms],
    models: Sequence[str | Path | LatentModel],
    layer: str = "backbone",
    **options: Any,
) -> tuple[dict[str, Features], dict[str, str]]:
    """Features of several models, and of the others why they cannot be had.

    Parameters
    ----------
    structures, layer
        As in `extract_features`.
    models
        Names, files or model objects.
    **options
        ``store`` and ``progress``, as there.

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
            found = extract_features(structures, model, layer, **options)
        except InputError as error:
            missing[str(getattr(model, "name", model))] = str(error)
        else:
            features[found.model] = found
    if not features:
        raise InputError(" ".join(["There are no features.", *missing.values()]))
    return features, missing


def features_by_layer(
    structures: Sequence[Atoms], model: str | Path | LatentModel, **options: Any
) -> dict[str, Features]:
    """Every layer of a model: ``interaction-1`` and so on where it has them, backbone, last.

    Parameters
    ----------
    structures, model
        As in `extract_features`.
    **options
        ``store`` and ``progress``, as there.

    Examples
    --------
    >>> from ase.build import bulk
    >>> list(features_by_layer([bulk("Cu")], "element"))
    ['backbone', 'last']
    """
    read = partial(extract_features, structures, loaded(model), **options)
    steps: dict[str, Features] = {}
    with suppress(InputError):  # only its own Python knows how many a remote model has
        for layer in (f"interaction-{n}" for n in count(1)):
            steps[layer] = read(layer)
    return steps | {layer: read(layer) for layer in LAYERS}


def feature_store(
    structures: Sequence[Atoms], model: LatentModel, store: str | Path
) -> FeatureStore:
    """Where the features of these structures by this model are kept."""
    mark = fingerprint(structures)
    folder = Path(store) / f"{model.name}-{model.fingerprint[:8]}-{mark[:8]}.zarr"
    provenance = {"model": model.name, "fingerprint": model.fingerprint, "structures": mark}
    return FeatureStore(folder, provenance | {"block_size": BLOCK})


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
        self.layer = layer
        self.length = n_blocks(structures)
        self.stores: dict[str, FeatureStore] = {}
        for model in map(loaded, models):
            self.stores[model.name] = feature_store(structures, model, store)
            if missing_blocks(structures, self.stores[model.name]):
                words = f"its features are not all in {store}, extract them first"
                raise InputError(f"{model.name}: {words}.")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """Name to (n_atoms, width)."""
        parts = self._parts(range(self.length)[number], self.layer)
        tables = [p[self.layer][np.repeat(shared, p["n_atoms"])] for p, shared in parts]
        return dict(zip(self.stores, tables, strict=True))

    def n_atoms(self) -> list[np.ndarray]:
        """(n_structures,) atoms of each kept structure, block by block."""
        firsts = (self._parts(number)[0] for number in range(self.length))
        return [part["n_atoms"][shared] for part, shared in firsts]

    def _parts(self, number: int, *names: str) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Of each model the arrays of a block, and which of its structures all models accept."""
        parts = [s.read(number, ("kept", "n_atoms", *names))[0] for s in self.stores.values()]
        common = reduce(np.intersect1d, (part["kept"] for part in parts))
        return [(part, np.isin(part["kept"], common)) for part in parts]


def extract_block(
    block: Sequence[Atoms],
    model: LatentModel,
    start: int,
    watch: Callable[[int], Any] = bool,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All layers of a few structures, in their order, and the refused ones.

    A structure with features that are not finite is refused, too. `watch` is called with the
    number of structures that have been dealt with since its last call.
    """
    graphs: dict[int, Any] = {}
    refused: dict[str, str] = {}
    for index, atoms in enumerate(block):
        try:
            graphs[index] = model.prepare(atoms)
        except Unsupported as error:
            refused[str(start + index)] = str(error)
            watch(1)
    kept = np.array(list(graphs), dtype=np.int64)
    n_atoms = np.array([len(block[i]) for i in kept], dtype=np.int64)
    owner = np.repeat(kept, n_atoms)
    arrays = {name: np.empty((len(owner), d), np.float32) for name, d in model.widths.items()}
    for batch in packed({i: model.size(g) for i, g in graphs.items()}, BATCH_SIZE):
        layers = forward(model, [graphs[i] for i in sorted(batch)])
        with np.errstate(over="ignore"):  # infinite in single precision: refused below
            for name, array in arrays.items():
                array[np.isin(owner, batch)] = layers[name]
        watch(len(batch))
    finite = [np.isfinite(array).all(axis=1) for array in arrays.values()]
    bad = np.unique(owner[~np.logical_and.reduce(finite)])
    why = f"{model.name} gives it features that are not finite numbers"
    refused |= {str(start + index): why for index in bad}
    rows, whole = ~np.isin(owner, bad), ~np.isin(kept, bad)
    numbers = np.concatenate([np.empty(0, np.int64), *(block[i].numbers for i in kept)])
    about = {"n_atoms": n_atoms[whole], "numbers": numbers[rows], "kept": start + kept[whole]}
    return {name: array[rows] for name, array in arrays.items()} | about, refused


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
