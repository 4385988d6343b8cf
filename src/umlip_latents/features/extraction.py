"""Structures and a model to per-atom latent features, kept so that a run can be repeated."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache, partial, reduce
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ..models.base import LAYERS, LatentModel
from ..models.catalogue import catalogue_entry, load_model
from ..models.environments import RemoteModel
from ..resources import InputError, check_at_least, torch_device
from ..structures.checks import check_structure
from .cache import FeatureCache
from .computing import fill, fill_remotely
from .table import Features, concatenate

Model = str | Path | LatentModel | RemoteModel


def extract_features(
    structures: Sequence[Atoms],
    model: Model,
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Features:
    """Latent features of every atom of every structure that the model accepts.

    One forward pass on the energy path gives all layers; no forces are computed. The features of a
    structure do not depend on what else is extracted beside it.

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
        and a repeated one only reads. Those of a model without a fingerprint are not kept.
    workers
        Processes that share the blocks of 64 structures, by joblib, one thread each. By default
        those of `joblib.parallel_config`; without it this process, helped by one worker for each
        core if that saves more time than their start takes. On a GPU there is one process, as
        there is for a model that cannot be pickled.
    device
        Where the network runs, as PyTorch names it; ``"auto"`` is CUDA if there is one, and leaves
        a model object where it is. Any other moves that object.
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
    model, source = find_model(model, device)
    remote = isinstance(model, RemoteModel)  # of which only its own Python knows all layers
    if not remote and layer not in model.widths:
        raise InputError(f"{layer}: no such layer, {model.name} has {', '.join(model.widths)}.")
    keep = store is not None and model.fingerprint
    with nullcontext(store) if keep else tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(folder, model, structures)
        parts = {i: cache.read(i, layer) for i in cache.starts}
        missing = {i: structures[i : i + cache.starts.step] for i in parts if parts[i] is None}
        for index in (k for i in missing for k in range(i, i + len(missing[i]))):
            check_structure(structures[index], f"structure {index}")
        if missing and remote:
            fill_remotely(folder, [model], structures, workers, progress)
        elif missing:
            with cache.lock():  # which somebody may have held who stored what is missing
                missing = {i: part for i, part in missing.items() if not cache.read(i, layer)}
                fill(cache, model, source, missing, workers, progress)
        parts = {i: part or cache.read(i, layer) for i, part in parts.items()}
    if None in parts.values():
        raise InputError(f"{cache.path}: a block of features cannot be read back.")
    dropped = [why for part in parts.values() for why in part.dropped.values()]
    if len(dropped) == len(structures):
        why = dropped[0] if dropped else "there is none"
        raise InputError(f"{model.name}: no structure left to extract features from ({why}).")
    return concatenate([*parts.values()])


def features_by_layer(
    structures: Sequence[Atoms], model: Model, *, store: str | Path | None = None, **options: Any
) -> dict[str, Features]:
    """Every layer of a model: ``interaction-1`` and so on where it has them, backbone, last.

    Parameters
    ----------
    structures, model, store
        As in `extract_features`.
    **options
        ``workers``, ``device`` and ``progress``, as there.

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


def find_model(
    model: Model, device: str | torch.device = "auto"
) -> tuple[LatentModel | RemoteModel, str | None]:
    """The model of a name or file on its device, and what a worker calls it; None for an object."""
    place = torch_device(device)
    if not isinstance(model, str | Path):
        return model.to(place) if str(device) != "auto" and hasattr(model, "to") else model, None
    if catalogue_entry(str(model)):
        return named_model(str(model), device=place), str(model)
    return load_model(model, device=place), os.path.abspath(model)


# A MACE takes as long to build as to read a few hundred structures, and another layer is asked for
# soon. Nobody else gets these, so that nobody trains on; files may change and are read anew.
named_model = lru_cache(64)(load_model)


def features_by_name(
    structures: Sequence[Atoms],
    models: Sequence[Model],
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    **options: Any,
) -> tuple[dict[str, Features], dict[str, str]]:
    """Features of several models, and of the others why they cannot be had.

    Parameters
    ----------
    structures, layer, store
        As in `extract_features`.
    models
        Names, files or model objects.
    **options
        ``workers``, ``device`` and ``progress``, as there.

    Returns
    -------
    features : dict
        By the name of each model; of those that share one, by the name or file that was given.
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
    if store is None:
        with tempfile.TemporaryDirectory() as folder:
            return features_by_name(structures, models, layer, store=folder, **options)
    fill_together(structures, models, store, options)
    found: list[tuple[Model, Features]] = []
    missing: dict[str, str] = {}
    for model in models:
        try:
            features = extract_features(structures, model, layer, store=store, **options)
        except InputError as error:
            missing[str(model) if isinstance(model, str | Path) else model.name] = str(error)
        else:
            found.append((model, features))
    if not found:
        raise InputError(" ".join(["There are no features.", *missing.values()]))
    names = distinct_names([model for model, _ in found], [f.model for _, f in found])
    return {name: f for name, (_, f) in zip(names, found, strict=True)}, missing


def fill_together(
    structures: Sequence[Atoms], models: Sequence[Model], store: str | Path, options: dict[str, Any]
) -> None:
    """Ask each environment once for all its models, as its start takes seconds.

    What fails is left to `extract_features`, which says why.
    """
    remote: list[RemoteModel] = []
    for model in models:
        with suppress(InputError):
            if (catalogue_entry(str(model)) or {}).get("environment"):
                model = find_model(model, options.get("device", "auto"))[0]
            if isinstance(model, RemoteModel):
                cache = FeatureCache(store, model, structures)
                remote += [model] * any(start not in cache for start in cache.starts)
    if len(remote) > 1:
        more = options.get("workers"), options.get("progress", True)
        with suppress(InputError):
            fill_remotely(store, remote, structures, *more)


def distinct_names(models: Sequence[Model], names: Sequence[str]) -> list[str]:
    """The names of models; of those that share one, what was given, numbered if it is an object.

    Examples
    --------
    >>> distinct_names(["a/net.pt", "b/net.pt", "element"], ["net", "net", "element"])
    ['a/net.pt', 'b/net.pt', 'element']
    """
    numbered = enumerate(zip(models, names, strict=True), start=1)
    given = [str(m) if isinstance(m, str | Path) else f"{n} ({i})" for i, (m, n) in numbered]
    return [n if names.count(n) == 1 else g for n, g in zip(names, given, strict=True)]


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
        loaded = [find_model(model)[0] for model in models]
        names = distinct_names(models, [model.name for model in loaded])
        caches = (FeatureCache(store, model, structures) for model in loaded)
        self.layer, self.caches = layer, dict(zip(names, caches, strict=True))

    def __len__(self) -> int:
        return len(next(iter(self.caches.values())).starts)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """Name to (n_atoms, width)."""
        return {name: part.features for name, part in self._parts(number).items()}

    def n_atoms(self) -> list[np.ndarray]:
        """(n_structures,) atoms of each kept structure, block by block."""
        return [next(iter(self._parts(i).values())).n_atoms for i in range(len(self))]

    def _parts(self, number: int) -> dict[str, Features]:
        """A block of every model, on the structures that all accept."""
        parts = {}
        for name, cache in self.caches.items():
            part = parts[name] = cache.read(cache.starts[number], self.layer)
            if part is None:
                raise InputError(f"{name}: {cache.path} lacks a block, extract the features first.")
        kept = reduce(np.intersect1d, (part.kept for part in parts.values()))
        return {name: part.select(kept) for name, part in parts.items()}
