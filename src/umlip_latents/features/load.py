"""Features of several models of one data set: shipped, else stored, else extracted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from tqdm import tqdm

from ..models.catalogue import catalogue_entry
from ..models.environments import RemoteModel
from ..resources import InputError, cache_folder
from ..structures.read import load_structures
from .computing import FeatureCache, fill_remotely
from .extraction import Model, extract_features, find_model
from .shipped import read_shipped, shipped_file
from .table import Features


def load_features(
    dataset: str | Path | Sequence[Atoms],
    models: Sequence[Model],
    layer: str = "backbone",
    *,
    store: str | Path | None = None,
    **options: Any,
) -> dict[str, Features]:
    """Latent features of several models: those that ship, else stored ones, else extracted.

    What ships (`features.shipped`) needs neither the structures nor the checkpoints. What cannot
    be had is left out, and a line on stderr says why.

    Parameters
    ----------
    dataset
        A name of `list_datasets`, a file of structures, or the structures themselves.
    models
        Names, files or model objects.
    layer
        As in `extract_features`.
    store
        Folder that keeps what is extracted; by default one in the user's cache.
    **options
        ``workers``, ``device`` and ``progress`` of `extract_features`.

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
    ships = [str(m) for m in models if shipped_file(name, str(m), layer).is_file()]
    found = {model: read_shipped(name, model, layer) for model in ships}
    others: list[Model] = []
    for model in models:
        if str(model) not in found and model not in others:
            others.append(model)
    store, missing, extracted = store or cache_folder() / "features", {}, []
    try:
        structures = load_structures(name) if name and others else dataset
    except InputError as error:  # such as a file that cannot be fetched
        if not found:
            raise
        structures, others, missing = [], [], {str(model): str(error) for model in others}
    fill_together(structures, others, store, options)
    for model in others:
        try:
            extracted.append(extract_features(structures, model, layer, store=store, **options))
        except InputError as error:
            missing[str(getattr(model, "name", model))] = str(error)
    every = [*found.values(), *extracted]
    found = dict(zip(distinct([f.model for f in every]), every, strict=True))
    if not found:
        raise InputError(" ".join(["There are no features.", *missing.values()]))
    for model, why in missing.items():
        tqdm.write(f"{model} is left out: {why}", file=sys.stderr)
    return found


def fill_together(
    structures: Sequence[Atoms], models: Sequence[Model], store: str | Path, options: dict[str, Any]
) -> None:
    """Ask each environment once for all its models, as its start takes seconds.

    What fails is left to `extract_features`, which says why.
    """
    remote = []
    for model in models:
        with suppress(InputError):
            if (catalogue_entry(str(model)) or {}).get("environment"):
                model = find_model(model, options.get("device", "auto"))[0]
            if isinstance(model, RemoteModel):
                cache = FeatureCache(store, model, structures)
                remote += [model] * any(start not in cache for start in cache.starts)
    more = options.get("workers"), options.get("progress", True)
    if len(remote) > 1:
        with suppress(InputError):
            fill_remotely(store, remote, structures, *more)


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
        loaded = [find_model(model)[0] for model in models]
        names = distinct([model.name for model in loaded])
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
