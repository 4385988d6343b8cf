"""Structures and a model to per-atom latent features, kept so that a run can be repeated."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from ..models.base import LAYERS, LatentModel
from ..models.catalogue import catalogue_entry, load_model
from ..models.environments import RemoteModel
from ..resources import InputError, check_at_least, torch_device
from ..structures.checks import check_structure
from ..structures.describe import fingerprint
from .computing import FeatureCache, fill, fill_remotely
from .shipped import find_shipped
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
    structure do not depend on what else is extracted beside it. Without a store, those of a
    registered data set that ship with the package (`features.shipped`) are read.

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
    marks = fingerprint(structures), model.name, model.fingerprint, layer
    if store is None and (found := find_shipped(*marks)):
        return found
    keep = store is not None and model.fingerprint
    with nullcontext(store) if keep else tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(folder, model, structures)
        parts = {i: cache.read(i, layer) for i in cache.starts}
        missing = {i: structures[i : i + cache.starts.step] for i in parts if parts[i] is None}
        origin = "extracted" if missing else f"stored in {cache.path}"
        for index in (k for i in missing for k in range(i, i + len(missing[i]))):
            check_structure(structures[index], f"structure {index}")
        if missing and remote:
            fill_remotely(folder, [model], structures, workers, progress)
        elif missing:
            with cache.lock():  # which somebody may have held who stored what is missing
                missing = {i: part for i, part in missing.items() if not cache.read(i, layer)}
                fill(cache, model, source, missing, workers, progress)
        parts = {i: part or cache.read(i, layer) for i, part in parts.items()}
    dropped = [why for part in parts.values() for why in part.dropped.values()]
    if len(dropped) == len(structures):
        why = dropped[0] if dropped else "there is none"
        raise InputError(f"{model.name}: no structure left to extract features from ({why}).")
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
