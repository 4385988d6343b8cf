"""Structures and models to per-atom latent features: shipped, else stored, else extracted."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial, reduce
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from tqdm import tqdm

from ..models.base import LAYERS, LatentModel
from ..models.catalogue import as_model, catalogue_entry, load_model
from ..models.environments import RemoteModel
from ..resources import InputError, cache_folder, check_at_least, torch_device
from ..structures.checks import check_structure
from ..structures.read import load_structures
from .computing import FeatureCache, named_model
from .shipped import find_shipped, read_shipped, shipped_file
from .table import Features, concatenate

Model = str | Path | LatentModel | RemoteModel


def extract_features(
    structures: Sequence[Atoms] | Atoms,
    model: Model,
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    progress: bool = True,
) -> Features:
    """Latent features of every atom of every structure that the model accepts.

    One forward pass on the energy path gives all layers; no forces are computed. The features of a
    structure do not depend on what else is extracted beside it. Without a store, those of a
    registered data set that ship with the package (`features.shipped`) are read.

    Parameters
    ----------
    structures
        Any sequence of `ase.Atoms`, or one.
    model
        A name or file for `load_model`, or a model object.
    layer
        ``"backbone"`` (after the last interaction), ``"last"`` (input of the final linear maps) or
        another one that the model offers, such as ``"interaction-1"``.
    store
        Folder in which all layers are kept, so that an interrupted run goes on where it stopped
        and a repeated one only reads. Those of a model without a fingerprint are not kept.
    workers
        Processes that share the blocks of 64 structures, by joblib, one thread each. By default
        those of `joblib.parallel_config`; without it this process, helped by one worker for each
        core if that saves more time than their start takes. On a GPU there is one process, as
        there is for a model that cannot be pickled.
    device
        Where the network runs, as PyTorch names it; ``"auto"`` is CUDA if there is one, and leaves
        a model object where it is. Any other moves that object.
    trust
        Allow a pickled file, as in `load_model`.
    progress
        Show a progress bar.

    Returns
    -------
    Features
        float32, in the order of the input; structures that the model refuses, or of which it gives
        features that are not finite, are named in `dropped`.

    Raises
    ------
    InputError
        Fewer than one worker, no such device, a layer that the model lacks, no structure at all
        that it accepts, or one that makes no sense (`structures.checks.check_structure`).

    Examples
    --------
    >>> from ase.build import bulk
    >>> found = extract_features([bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)], "element")
    >>> found.features.shape, found.n_atoms.tolist()
    ((3, 118), [1, 2])
    """
    check_at_least(1, workers=workers)
    structures = [structures] if isinstance(structures, Atoms) else structures
    name = str(model) if catalogue_entry(str(model)) else None
    model = find_model(model, device, trust)
    remote = isinstance(model, RemoteModel)  # of which only its own Python knows all layers
    if not remote and layer not in model.widths:
        raise InputError(f"{layer}: no such layer, {model.name} has {', '.join(model.widths)}.")
    keep = store is not None and model.fingerprint
    with nullcontext(store) if keep else tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(folder, model, structures)
        if store is None and (found := find_shipped(**cache.origin, layer=layer)):
            return found
        parts = {start: cache.read(start, layer) for start in cache.starts}
        missing = {i: structures[i : i + cache.starts.step] for i in parts if parts[i] is None}
        for index in (k for i in missing for k in range(i, i + len(missing[i]))):
            check_structure(structures[index], f"structure {index}")
        counted = {"total": sum(map(len, missing.values())), "unit": "structure"}
        with tqdm(desc=model.name, disable=not (progress and missing), **counted) as bar:
            if missing and remote:
                cache.fill_remotely(model, structures, workers, bar)
            elif missing:
                cache.fill(model, name, missing, workers, bar)
        parts |= {start: cache.read(start, layer) for start in missing}
    dropped = [why for part in parts.values() for why in part.dropped.values()]
    if len(dropped) == len(structures):
        why = dropped[0] if dropped else "there is none"
        raise InputError(f"{model.name}: no structure left to extract features from ({why}).")
    origin = "extracted" if missing else f"stored in {cache.path}"
    return replace(concatenate([*parts.values()]), origin=origin)


def features_by_layer(
    structures: Sequence[Atoms], model: Model, *, store: str | Path | None = None, **options: Any
) -> dict[str, Features]:
    """Every layer of a model: ``interaction-1`` and so on where it has them, backbone, last.

    Parameters
    ----------
    structures, model, store
        As in `extract_features`.
    **options
        ``workers``, ``device``, ``trust`` and ``progress``, as there.

    Examples
    --------
    >>> from ase.build import bulk
    >>> list(features_by_layer([bulk("Cu")], "element"))
    ['backbone', 'last']
    """
    found: dict[str, Features] = {}
    with nullcontext(store) if store is not None else tempfile.TemporaryDirectory() as folder:
        extract = partial(extract_features, structures, model, store=folder, **options)
        with suppress(InputError):  # only its own Python knows how many a remote model has
            for layer in (f"interaction-{n}" for n in count(1)):
                found[layer] = extract(layer)
        return found | {layer: extract(layer) for layer in LAYERS}


def load_features(
    dataset: str | Path | Sequence[Atoms],
    models: Sequence[Model] | Model,
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    progress: bool = True,
) -> dict[str, Features]:
    """Latent features of several models: those that ship, else stored ones, else extracted.

    What ships (`features.shipped`) needs neither the structures nor the checkpoints. What cannot
    be had is left out, and a line on stderr says why.

    Parameters
    ----------
    dataset
        A name of `list_datasets`, a file of structures, or the structures themselves.
    models
        Names, files or model objects; or one of them.
    layer
        As in `extract_features`.
    store
        Folder that keeps what is extracted; by default one in the user's cache.
    workers, device, trust, progress
        As in `extract_features`.

    Returns
    -------
    dict
        Name of a model to its `Features`, whose `origin` says where they come from.

    Raises
    ------
    InputError
        No such data set, or none of the models' features can be had.

    Examples
    --------
    >>> features = load_features("alexandria-random-1k", ["chgnet-0.3.0", "element"])
    >>> {name: f.features.shape for name, f in features.items()}
    {'chgnet-0.3.0': (7669, 64), 'element': (7669, 118)}
    """
    name = str(dataset) if isinstance(dataset, str | Path) else ""
    structures, kept = dataset, store or cache_folder() / "features"
    how = {"workers": workers, "device": device, "trust": trust, "progress": progress}
    found, missing = [], {}
    models = models if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    for model in (model for i, model in enumerate(models) if model not in models[:i]):
        try:
            if isinstance(model, str) and shipped_file(name, model, layer).is_file():
                found.append(read_shipped(name, model, layer))
                continue
            if isinstance(structures, str | Path):
                structures = load_structures(structures)
            found.append(extract_features(structures, model, layer, store=kept, **how))
        except InputError as error:
            missing[getattr(model, "name", model)] = error
    if not found:
        reasons = dict.fromkeys(map(str, missing.values()))
        raise InputError(" ".join(["There are no features.", *reasons]))
    for model, why in missing.items():
        tqdm.write(f"{model} is left out: {why}", file=sys.stderr)
    return dict(zip(distinct([f.model for f in found]), found, strict=True))


def distinct(names: Sequence[str]) -> list[str]:
    """Names of models, those that several share followed by their places.

    Examples
    --------
    >>> distinct(["net", "net", "element"])
    ['net (1)', 'net (2)', 'element']
    """
    return [n if names.count(n) == 1 else f"{n} ({i})" for i, n in enumerate(names, start=1)]


class FeatureBlocks(Sequence):
    """Stored features of several models, a block at a time, of the structures that all accept.

    What `streaming_gfre` reads. Only the block that is asked for is in memory.

    Parameters
    ----------
    structures, models, layer, store
        As `extract_features` was given them, once for every model.

    Raises
    ------
    InputError
        A block that is read is not in the store.
    """

    def __init__(
        self, structures: Sequence[Atoms], models: Sequence[Model], layer: str, store: str | Path
    ) -> None:
        loaded = [find_model(model) for model in models]
        self.names, self.layer = distinct([model.name for model in loaded]), layer
        self.caches = [FeatureCache(store, model, structures) for model in loaded]

    def __len__(self) -> int:
        return len(self.caches[0].starts)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """Name to (n_atoms, width)."""
        return {n: f.features for n, f in zip(self.names, self.parts(number), strict=True)}

    def n_atoms(self) -> list[np.ndarray]:
        """(n_structures,) atoms of each kept structure, block by block."""
        return [self.parts(number)[0].n_atoms for number in range(len(self))]

    def parts(self, number: int) -> list[Features]:
        """A block of every model, on the structures that all accept."""
        parts = [cache.read(cache.starts[number], self.layer) for cache in self.caches]
        if None in parts:
            path = self.caches[parts.index(None)].path
            raise InputError(f"{path}: lacks a block, extract the features first.")
        kept = reduce(np.intersect1d, (part.kept for part in parts))
        return [part.select(kept) for part in parts]


def find_model(
    model: Model, device: str | torch.device = "auto", trust: bool = False
) -> LatentModel | RemoteModel:
    """The model of a name or file on its device; an object is moved if a device is named."""
    place = torch_device(device)
    if isinstance(model, str | Path):
        load = named_model if catalogue_entry(str(model)) else load_model
        return load(str(model), device=place, trust=trust)
    if not isinstance(model, RemoteModel):
        model = as_model(model, getattr(model, "name", type(model).__name__))
    return model.to(place) if str(device) != "auto" and hasattr(model, "to") else model
