"""The same work on the workers of a Dask scheduler.

Blocks of structures, and chunks of test atoms, are independent tasks. A worker that dies loses
only the tasks it held, which Dask gives to another one.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from dask import bag
from dask.distributed import Client

from . import extraction
from .extraction import FeatureBlocks, Task, feature_store, loaded, missing_blocks
from .factors import TriangularFactors, error_matrix, part_labels
from .features import Features
from .models.base import LatentModel
from .models.catalog import load_model
from .models.remote import RemoteModel
from .reconstruction import pointwise_errors
from .regression import Regularization, default_regularization
from .resources import InputError
from .store import FeatureStore
from .workers import keep_memory

MERGED = 8  # factors that one task of a reduction merges


def connected(scheduler: str | Client) -> AbstractContextManager[Client]:
    """A client of the scheduler, closed at the end if only its address was given."""
    if isinstance(scheduler, Client):
        return nullcontext(scheduler)
    try:
        return Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{scheduler}: no Dask scheduler answers there ({error}).") from None


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
    here = loaded(model)
    if isinstance(here, RemoteModel):
        raise InputError(f"{here.name}: runs in an environment of its own, not by a scheduler.")
    blocks = feature_store(structures, here, store)
    with connected(scheduler) as client:
        tasks = [
            client.submit(write_block, blocks, model, task, pure=False)
            for task in missing_blocks(structures, blocks)
        ]
        client.gather(tasks)
    return extraction.extract_features(structures, here, layer, store=store, progress=progress)


def write_block(blocks: FeatureStore, model: str | Path | LatentModel, task: Task) -> None:
    """One block, unless a worker that died since had finished it."""
    keep_memory()
    here = cached_model(model) if isinstance(model, str | Path) else model
    extraction.write_block(blocks, here, task)


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
        words = f"hold {ends[-1]} atoms, the split names atom {len(labels) - 1}"
        raise InputError(f"The blocks {words}.")
    with connected(scheduler) as client:
        parts = bag.from_sequence(enumerate(np.split(labels, ends[:-1])), partition_size=1)
        factors = parts.starmap(block_factors, blocks=blocks, device=device)
        merged = client.compute(factors.fold(TriangularFactors.merge, split_every=MERGED)).result()
    return merged.errors(regularization or default_regularization(groups))


def block_factors(
    number: int, labels: np.ndarray, blocks: FeatureBlocks, device: str
) -> TriangularFactors:
    """Factors of one block."""
    return TriangularFactors(device).update(blocks[number], labels)


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
        # one each: every chunk has to scale the tables
        n_chunks = min(len(test), max(1, sum(client.nthreads().values())))
        # a copy on every worker, so that no worker is the only one to have it
        tables, rows = client.scatter([dict(features), train], broadcast=True)
        tasks = [
            client.submit(pointwise_errors, tables, rows, chunk, "lfre", **options, pure=False)
            for chunk in np.array_split(test, n_chunks)
        ]
        parts = [part.errors for part in client.gather(tasks)]
    errors = {pair: np.concatenate([part[pair] for part in parts]) for pair in parts[0]}
    return error_matrix(errors, len(test))
