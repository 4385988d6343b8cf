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
from ase import Atoms
from dask.distributed import Client, as_completed

from .extraction import FeatureBlocks, extract_block
from .factors import Factors, rows_of_parts
from .models.base import LatentModel
from .models.catalog import load_model
from .reconstruction import pointwise_local
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


def extract_blocks(
    scheduler: str | Client,
    blocks: Mapping[int, tuple[Sequence[Atoms], int]],
    model: str | Path | LatentModel,
    store: FeatureStore,
) -> None:
    """Have the workers write blocks, given as structures and index of the first, into the store."""
    with connected(scheduler) as client:
        tasks = [
            client.submit(write_block, number, *block, model, store, pure=False)
            for number, block in blocks.items()
        ]
        for task in as_completed(tasks):
            task.result()


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


def stored_factors(
    scheduler: str | Client, blocks: FeatureBlocks, labels: np.ndarray, device: str
) -> Factors:
    """Factors of all blocks: one task for each, then merged as a tree."""
    ends = np.cumsum([n.sum() for n in blocks.n_atoms()])
    if ends[-1] < len(labels):
        raise InputError(
            f"The blocks hold {ends[-1]} atoms, the split names atom {len(labels) - 1}."
        )
    parts = np.split(labels, ends[:-1])
    with connected(scheduler) as client:
        tasks = [
            client.submit(block_factors, blocks, number, part, device, pure=False)
            for number, part in enumerate(parts)
        ]
        while len(tasks) > 1:
            groups = [tasks[i : i + MERGED] for i in range(0, len(tasks), MERGED)]
            tasks = [client.submit(merged_factors, group, pure=False) for group in groups]
        return tasks[0].result()


def block_factors(blocks: FeatureBlocks, number: int, labels: np.ndarray, device: str) -> Factors:
    """Factors of one block."""
    return Factors(device).update(blocks[number], rows_of_parts(labels))


def merged_factors(factors: Sequence[Factors]) -> Factors:
    """Factors of several blocks."""
    return reduce(Factors.merge, factors)


def pointwise_local_chunks(
    scheduler: str | Client,
    features: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    **options: Any,
) -> dict[tuple[str, str], np.ndarray]:
    """`pointwise_local` with the test atoms dealt out to the workers."""
    with connected(scheduler) as client:
        n_chunks = min(len(test), 4 * max(1, sum(client.nthreads().values())))
        # a copy on every worker, so that no worker is the only one to have it
        tables, rows = client.scatter([dict(features), train], broadcast=True)
        tasks = [
            client.submit(pointwise_local, tables, rows, chunk, **options, pure=False)
            for chunk in np.array_split(test, n_chunks)
        ]
        parts = client.gather(tasks)
    return {pair: np.concatenate([part[pair] for part in parts]) for pair in parts[0]}
