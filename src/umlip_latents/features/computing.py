"""Blocks of structures through a model, and on disk: a file of all layers for each block.

They are computed in this process, by workers, or by another Python.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import ase.io
import joblib
import numpy as np
import torch
from ase import Atoms
from filelock import FileLock
from tqdm import tqdm

from ..models.base import LatentModel, Unsupported, one_thread
from ..models.catalogue import load_model
from ..models.environments import RemoteModel, run_in_environment
from ..resources import InputError, ensure_dir, fetch, wrap_os_error
from ..structures.describe import fingerprint
from .table import Features

BLOCK_SIZE = 64  # structures that one process computes, and stores, together
# Edges in one forward pass. More do not fit the processor's cache: with 40,000 an edge takes MACE
# twice as long. What is too much for the memory is halved (`forward`).
BATCH_SIZE = 6_000
BYTES_PER_EDGE = 100_000  # of a GPU's memory, for a large network
START = 10  # seconds that workers need before they compute
DEAL_OUT = {"prefer": "processes", "batch_size": 1, "return_as": "generator_unordered"}
ONE_AT_A_TIME = threading.Lock()  # a forward pass leaves its layers in hooks of the network


class FeatureCache:
    """The features of a list of structures by one model, in a folder of their own.

    A block is a file of `Features` in which all layers stand side by side. One that is damaged, or
    does not come from this model and these structures, is deleted and counts as missing.

    Parameters
    ----------
    store
        The folder of all caches.
    model, structures
        Where the features come from.
    """

    def __init__(
        self, store: str | Path, model: LatentModel | RemoteModel, structures: Sequence[Atoms]
    ) -> None:
        marks = {"fingerprint": model.fingerprint, "structures": fingerprint(structures)}
        self.origin = {"model": model.name, **marks}
        folder = "-".join([model.name, *(mark[:8] for mark in marks.values())])
        self.path = Path(store) / re.sub(r"[^\w.+-]", "_", folder)
        self.starts = range(0, len(structures), BLOCK_SIZE)

    def file(self, start: int) -> Path:
        """The path of the block whose first structure has this index."""
        return self.path / f"block-{start:08d}.npz"

    def __contains__(self, start: int) -> bool:
        return self.file(start).is_file()

    def write(self, start: int, block: Features, widths: dict[str, int]) -> None:
        """Store a block, whose columns are layers of such widths; raises `InputError`."""
        replace(block, **self.origin, layer=json.dumps(dict(widths))).save(self.file(start))

    def read(self, start: int, layer: str) -> Features | None:
        """One layer of a block; None if the file is missing.

        Raises
        ------
        InputError
            The model has no such layer.
        """
        if start not in self:
            return None
        try:
            block = Features.load(self.file(start))
            widths = json.loads(block.layer)
            if any(getattr(block, key) != value for key, value in self.origin.items()):
                raise ValueError("comes from somewhere else")
        except ValueError:  # as an `InputError` is, too
            tqdm.write(f"{self.file(start)}: is damaged, and computed again.", file=sys.stderr)
            with suppress(OSError):
                self.file(start).unlink()
            return None
        if layer not in widths:
            raise InputError(f"{layer}: no such layer, {block.model} has {', '.join(widths)}.")
        layers = np.split(block.features, np.cumsum([*widths.values()])[:-1], axis=1)
        return replace(block, features=layers[[*widths].index(layer)], layer=layer)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Have other processes wait that would compute the same blocks.

        What writers that were killed have left is deleted.
        """
        with wrap_os_error(self.path):
            held = FileLock(ensure_dir(self.path) / ".lock").acquire()
        with held:
            for left in self.path.glob(".*.part"):
                left.unlink(missing_ok=True)
            yield


def fill(
    cache: FeatureCache,
    model: LatentModel,
    source: str | None,
    blocks: dict[int, Sequence[Atoms]],
    workers: int | None,
    progress: bool,
) -> None:
    """Compute and store blocks, by workers if they are asked for or save time.

    Whatever goes wrong with these, such as the death of one, the rest is done in this process,
    which sees the reason if there is one.

    Parameters
    ----------
    cache
        Where to.
    model, source
        The model, and the name or file by which a worker loads it; else it is pickled.
    blocks
        Structures by the index of the first one.
    workers, progress
        As in `extract_features`.
    """
    configured = joblib.effective_n_jobs(None)  # 1 unless there is a `joblib.parallel_config`
    n_workers = min(workers or (configured if configured > 1 else joblib.cpu_count()), len(blocks))
    if str(getattr(model, "device", "cpu")) != "cpu":
        n_workers = 1
    deal_out = n_workers > 1 and (workers or configured > 1)
    # the largest first, so that nobody waits long at the end
    tasks = sorted(blocks.items(), key=lambda block: sum(map(len, block[1])), reverse=True)
    total = sum(map(len, blocks.values()))
    with tqdm(desc=model.name, unit="structure", total=total, disable=not progress) as bar:
        while tasks and not deal_out:
            began = time.monotonic()
            bar.update(compute(cache, model, *tasks.pop(0)))
            deal_out = (time.monotonic() - began) * len(tasks) * (1 - 1 / n_workers) > START
        if not tasks:
            return
        try:
            work = (  # without calculators, which may not travel
                joblib.delayed(compute)(cache, source or model, i, [a.copy() for a in part])
                for i, part in tasks
            )
            with closing(joblib.Parallel(n_workers, **DEAL_OUT)(work)) as finished:
                for n_structures in finished:
                    bar.update(n_structures)
        except Exception as error:
            print(f"Workers stop ({type(error).__name__}); this process goes on.", file=sys.stderr)
        for start, structures in tasks:
            if start not in cache:
                bar.update(compute(cache, model, start, structures))


def compute(
    cache: FeatureCache, model: LatentModel | str, start: int, structures: Sequence[Atoms]
) -> int:
    """Compute and store the block that starts there; returns how many structures it has."""
    with ONE_AT_A_TIME:
        if isinstance(model, str):
            model = worker_model(model, cache.origin["fingerprint"] or str(cache.path))
        block = compute_block(model, structures, start)
    cache.write(start, block, model.widths)
    return len(structures)


@lru_cache(1)
def worker_model(source: str, key: str) -> LatentModel:
    """The model in a worker, which keeps it for its next block; the key is the model's."""
    return load_model(source, device="cpu")


def compute_block(model: LatentModel, structures: Sequence[Atoms], start: int = 0) -> Features:
    """All layers of the structures side by side, those left out that the model refuses.

    Parameters
    ----------
    model, structures
        As in `extract_features`.
    start
        Index of the first structure in the whole input.
    """
    graphs, dropped, rows = {}, {}, {}
    for index, atoms in enumerate(structures):
        try:
            graphs[index] = model.prepare(atoms)
        except Unsupported as error:
            dropped[start + index] = str(error)
    device, budget = torch.device(getattr(model, "device", "cpu")), BATCH_SIZE
    if device.type == "cuda":
        budget = max(budget, torch.cuda.mem_get_info(device)[1] // BYTES_PER_EDGE)
    for batch in packed({i: model.size(g) for i, g in graphs.items()}, budget):
        with nullcontext() if model.size(graphs[batch[0]]) > BATCH_SIZE else one_thread():
            table = forward(model, [graphs[i] for i in batch])
        n_atoms = [len(structures[i]) for i in batch]
        if len(table) != sum(n_atoms):
            raise InputError(f"{model.name}: gives {len(table)} rows for {sum(n_atoms)} atoms.")
        for index, x in zip(batch, np.split(table, np.cumsum(n_atoms)[:-1]), strict=True):
            if np.isfinite(x).all():
                rows[index] = x
            else:
                dropped[start + index] = f"{model.name} gives it features that are not finite"
    kept = np.array(sorted(rows), dtype=np.int64)
    x = [np.empty((0, sum(model.widths.values())), np.float32), *(rows[i] for i in kept)]
    numbers = [kept[:0], *(structures[i].numbers for i in kept)]
    n_atoms = np.array([len(structures[i]) for i in kept], dtype=np.int64)
    return Features(np.concatenate(x), n_atoms, np.concatenate(numbers), start + kept, dropped)


def forward(model: LatentModel, graphs: Sequence) -> np.ndarray:
    """(n_atoms, sum of widths) features of a batch, in two halves if the memory is too small."""
    try:
        layers = model.features(graphs)
        with np.errstate(over="ignore"):  # not finite in single precision: the structure is dropped
            return np.hstack([layers[name] for name in model.widths]).astype(np.float32)
    except (MemoryError, RuntimeError) as error:  # PyTorch raises the latter
        full = isinstance(error, MemoryError) or "memory" in str(error).lower()
        if not full or len(graphs) == 1:
            raise
    half = len(graphs) // 2
    return np.concatenate([forward(model, graphs[:half]), forward(model, graphs[half:])])


def packed(sizes: dict[int, int], budget: int) -> list[list[int]]:
    """Group indices by size, the largest first; only its last one may take a group over budget.

    Examples
    --------
    >>> packed({0: 2, 1: 5, 2: 1, 3: 2}, 5)
    [[1], [0, 3, 2]]
    """
    order = sorted(sizes, key=sizes.__getitem__, reverse=True)
    filled = np.cumsum([sizes[index] for index in order])
    edges = np.flatnonzero(np.diff((filled - 1) // budget)) + 1
    return [group.tolist() for group in np.split(np.array(order), edges) if len(group)]


def fill_remotely(
    store: str | Path,
    models: Sequence[RemoteModel],
    structures: Sequence[Atoms],
    workers: int | None,
    progress: bool,
) -> None:
    """Have the Pythons of environments, one for all of its models, store their features.

    Raises
    ------
    InputError
        With the sentence with which one stopped, or why a file is not to be had.
    """
    layout = {"bar_format": "{desc} {elapsed}{postfix}", "disable": not progress}
    for name in sorted({model.environment for model in models}):
        several = [model for model in models if model.environment == name]
        for file in (file for model in several for file in model.files):
            fetch(*file)  # before an environment is made in vain
        with tempfile.TemporaryDirectory() as folder, tqdm(desc=f"in {name}", **layout) as bar:
            file = Path(folder) / "structures.traj"  # binary: not a bit of a position is lost
            bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in structures]
            ase.io.write(file, bare)
            command = ["extract", f"--structures={file}", f"--store={store}"]
            command += [f"--device={several[0].device}"]
            command += [f"--workers={workers}"] if workers else []
            command += [f"--model={model.name}" for model in several]
            run_in_environment(name, command, lambda line, bar=bar: bar.set_postfix_str(line[:60]))
