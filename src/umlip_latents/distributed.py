"""The same work on the workers of a Dask scheduler.

Blocks of structures, and chunks of test atoms, are independent tasks. A worker that dies loses
only the tasks it held, which Dask gives to another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from dask.distributed import Client, as_completed

from . import extraction
from .extraction import FeatureBlocks, Features, extract_block, feature_store
from .factors import TriangularFactors, part_labels, rows_of_parts
from .models.base import LatentModel
from .models.catalog import load_model
from .models.remote import RemoteModel
from .reconstruction import pointwise_errors, root_mean_square
from .regression import Regularization, default_regularization
from .resources import InputError
from .store import FeatureStore

MERGED = 8  # factors that one task of a reduction merges


@contextmanager
def connected(scheduler: str | Client) -> Iterator[Client]:
    """A client of the scheduler, closed at the end if only its address was given."""
    if isinstance(scheduler, Client):
        yield scheduler
        return
    try:
        client = Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{scheduler}: no Dask scheduler answers there ({error}).") from None
    with client:
        yield client


def extract_features(
    scheduler: str | Client,
    structures: Sequence[Atoms],
    model: str | Path | LatentModel,
    layer: str = "backbone",
    *,
    store: str | Path,
    progress: bool = True,
) -> Features:
    """`umlip_latents.extract_features`, the missing blocks written by the workers.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, or a `dask.distributed.Client`.
    structures, model, layer, progress
        As there. A model given by name or file is loaded once by each worker.
    store
        A folder that all workers see.

    Raises
    ------
    InputError
        As there; also no scheduler, or a model that runs in an environment of its own.

    Examples
    --------
    >>> extract_features("tcp://scheduler:8786", structures, "chgnet-0.3.0", store="/shared")
    ... # doctest: +SKIP
    """
    loaded = load_model(model) if isinstance(model, str | Path) else model
    if isinstance(loaded, RemoteModel):
        raise InputError(f"{loaded.name}: runs in an environment of its own, not by a scheduler.")
    blocks = feature_store(structures, loaded, store)
    with connected(scheduler) as client:
        tasks = [
            client.submit(
                write_block,
                number,
                structures[start : start + extraction.BLOCK],
                start,
                model,
                blocks,
                pure=False,
            )
            for number, start in enumerate(range(0, len(structures), extraction.BLOCK))
            if number not in blocks
        ]
        for task in as_completed(tasks):
            task.result()
    return extraction.extract_features(structures, loaded, layer, store=store, progress=progress)


def write_block(
    number: int,
    structures: Sequence[Atoms],
    start: int,
    model: str | Path | LatentModel,
    store: FeatureStore,
) -> None:
    """One block, unless a worker that died since had finished it."""
    if number not in store:
        model = cached_model(model) if isinstance(model, str | Path) else model
        store.write(number, *extract_block(structures, model, start))


cached_model = cache(load_model)


def streaming_gfre(
    scheduler: str | Client,
    blocks: FeatureBlocks,
    train: np.ndarray,
    test: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    regularization: Regularization | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """`umlip_latents.streaming_gfre`: a task for each block, the factors merged as a tree.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, or a `dask.distributed.Client`.
    blocks
        In a store that all workers see.
    train, test, groups, regularization, device
        As there.

    Examples
    --------
    >>> streaming_gfre("tcp://scheduler:8786", blocks, train, test)  # doctest: +SKIP
    """
    labels = part_labels(train, test, groups)
    ends = np.cumsum([n.sum() for n in blocks.n_atoms()])
    if ends[-1] < len(labels):
        raise InputError(
            f"The blocks hold {ends[-1]} atoms, the split names atom {len(labels) - 1}."
        )
    with connected(scheduler) as client:
        tasks = [
            client.submit(block_factors, blocks, number, part, device, pure=False)
            for number, part in enumerate(np.split(labels, ends[:-1]))
        ]
        while len(tasks) > 1:
            parts = [tasks[i : i + MERGED] for i in range(0, len(tasks), MERGED)]
            tasks = [client.submit(merged_factors, part, pure=False) for part in parts]
        factors = tasks[0].result()
    return factors.errors(regularization or default_regularization(groups))


def block_factors(
    blocks: FeatureBlocks, number: int, labels: np.ndarray, device: str
) -> TriangularFactors:
    """Factors of one block."""
    return TriangularFactors(device).update(blocks[number], rows_of_parts(labels))


def merged_factors(factors: Sequence[TriangularFactors]) -> TriangularFactors:
    """Factors of several blocks."""
    return reduce(TriangularFactors.merge, factors)


def local_matrix(
    scheduler: str | Client,
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    **options: Any,
) -> pd.DataFrame:
    """The LFREs of `umlip_latents.reconstruction_matrix`, the test atoms dealt to the workers.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, or a `dask.distributed.Client`.
    features, train, test
        As there; the tables travel to every worker once and must fit there.
    **options
        ``groups``, ``regularization``, ``n_local_points`` and ``device`` as there.

    Examples
    --------
    >>> local_matrix("tcp://scheduler:8786", features, train, test)  # doctest: +SKIP
    """
    with connected(scheduler) as client:
        n_chunks = min(len(test), 4 * max(1, sum(client.nthreads().values())))
        # a copy on every worker, so that no worker is the only one to have it
        tables, rows = client.scatter([dict(features), train], broadcast=True)
        tasks = [
            client.submit(pointwise_errors, tables, rows, chunk, "lfre", **options, pure=False)
            for chunk in np.array_split(test, n_chunks)
        ]
        parts = [part.errors for part in client.gather(tasks)]
    names = list(features)
    table = [
        [root_mean_square(np.concatenate([part[s, t] for part in parts])) for t in names]
        for s in names
    ]
    return pd.DataFrame(table, index=pd.Index(names, name="source"), columns=names)
