"""Blocks of structures through a model, and on disk: a file of all layers for each block.

They are computed in this process, by workers, or by another Python.
"""

import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext, suppress
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
from ..resources import InputError, ensure_dir, wrap_os_error
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
# A MACE takes as long to build as to read a few hundred structures, and another layer or block is
# asked for soon. Nobody else gets these, so that nobody trains on; files may change and are read
# anew.
named_model = lru_cache(64)(load_model)
Blocks = dict[int, Sequence[Atoms]]


class FeatureCache:
    """The features of a list of structures by one model, in a folder of their own.

    A block is a file of `Features` in which all layers stand side by side, and `layer` gives their
    widths in JSON.

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

    def read(self, start: int, layer: str) -> Features | None:
        """One layer of a block; None if the file is missing, or damaged and therefore deleted.

        Raises
        ------
        InputError
            The model has no such layer.
        """
        file = self.file(start)
        if not file.is_file():
            return None
        try:
            block = Features.load(file)
            widths = json.loads(block.layer)
            if any(getattr(block, key) != value for key, value in self.origin.items()):
                raise ValueError("comes from somewhere else")
        except ValueError:  # as an `InputError` is, too
            tqdm.write(f"{file}: is damaged, and computed again.", file=sys.stderr)
            with suppress(OSError):
                file.unlink()
            return None
        if layer not in widths:
            raise InputError(f"{layer}: no such layer, {block.model} has {', '.join(widths)}.")
        layers = np.split(block.features, np.cumsum([*widths.values()])[:-1], axis=1)
        return replace(block, features=layers[[*widths].index(layer)], layer=layer)

    def fill(
        self, model: LatentModel, name: str | None, blocks: Blocks, workers: int | None, bar: tqdm
    ) -> None:
        """Compute and store blocks, by workers if they are asked for or save time.

        Whatever goes wrong with these, such as the death of one, the rest is done in this process,
        which sees the reason if there is one. Another process that would compute the same waits.

        Parameters
        ----------
        model, name
            The model, and the name by which a worker loads it; without one it is pickled.
        blocks
            Structures by the index of the first one.
        workers
            As in `extract_features`.
        bar
            Counts the structures.
        """
        if str(getattr(model, "device", "cpu")) != "cpu":
            workers = 1
        n_workers = workers or joblib.effective_n_jobs(None)  # of a `joblib.parallel_config`, or 1
        with wrap_os_error(self.path):
            lock = FileLock(ensure_dir(self.path) / ".lock").acquire()
        with lock:
            for left in self.path.glob(".*.part"):  # by writers that were killed
                left.unlink(missing_ok=True)
            tasks = [(i, part) for i, part in blocks.items() if not self.file(i).is_file()]
            if tasks and not workers and n_workers == 1:
                began = time.monotonic()
                bar.update(self.compute(model, *tasks.pop(0)))
                if (time.monotonic() - began) * len(tasks) > START:
                    n_workers = joblib.cpu_count()
            if n_workers > 1 and len(tasks) > 1:
                copies = ((i, [a.copy() for a in part]) for i, part in tasks)  # no calculators
                work = (joblib.delayed(self.compute)(name or model, *task) for task in copies)
                pool = joblib.Parallel(min(n_workers, len(tasks)), **DEAL_OUT)
                try:
                    with closing(pool(work)) as finished:
                        for n_structures in finished:
                            bar.update(n_structures)
                except Exception as error:
                    why = type(error).__name__
                    print(f"Workers stop ({why}); this process goes on.", file=sys.stderr)
            for start, structures in tasks:
                if not self.file(start).is_file():
                    bar.update(self.compute(model, start, structures))

    def compute(self, model: LatentModel | str, start: int, structures: Sequence[Atoms]) -> int:
        """Compute and store the block that starts there; returns how many structures it has."""
        with ONE_AT_A_TIME:
            if isinstance(model, str):
                model = named_model(model, device="cpu")
            block = compute_block(model, structures, start)
        layers = json.dumps(dict(model.widths))
        replace(block, **self.origin, layer=layers).save(self.file(start))
        return len(structures)

    def fill_remotely(
        self, model: RemoteModel, structures: Sequence[Atoms], workers: int | None, bar: tqdm
    ) -> None:
        """Have the Python of the model's environment store its features.

        Raises
        ------
        InputError
            With the sentence with which it stopped.
        """
        bar.bar_format = f"{{desc}} in {model.environment} {{elapsed}}{{postfix:.62}}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "structures.traj"  # binary: not a bit of a position is lost
            bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in structures]
            ase.io.write(file, bare)
            command = ["extract", f"--model={model.source}", f"--device={model.device}"]
            command += [f"--structures={file}", f"--store={self.path.parent}"]
            command += [f"--workers={workers}"] if workers else []
            run_in_environment(model.environment, command, bar.set_postfix_str)


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
    for index, atoms in enumerate(structures, start):
        try:
            graphs[index] = model.prepare(atoms)
        except Unsupported as error:
            dropped[index] = str(error)
    device, budget = torch.device(getattr(model, "device", "cpu")), BATCH_SIZE
    if device.type == "cuda":
        budget = max(budget, torch.cuda.mem_get_info(device)[1] // BYTES_PER_EDGE)
    own = start == 0 and not type(model).__module__.startswith("umlip_latents.")
    for batch in packed({i: model.size(g) for i, g in graphs.items()}, budget):
        n_atoms = [len(structures[i - start]) for i in batch]
        with nullcontext() if model.size(graphs[batch[0]]) > BATCH_SIZE else one_thread():
            tables = forward(model, [graphs[i] for i in batch], n_atoms)
        rows |= dict(zip(batch, tables, strict=True))
        if own and len(batch) > 1:  # once, of a model of somebody's own
            own = False
            (alone,) = forward(model, [graphs[batch[-1]]], n_atoms[-1:])
            limit = 1e-3 * np.abs(alone).max()
            if not np.allclose(tables[-1], alone, rtol=0, atol=limit, equal_nan=True):
                why = "gives a structure other features in a batch than alone"
                raise InputError(f"{model.name}: {why}.")
    for index in [i for i, x in rows.items() if not np.isfinite(x).all()]:
        del rows[index]
        dropped[index] = f"{model.name} gives it features that are not finite"
    kept = np.array(sorted(rows), dtype=np.int64)
    x = [np.empty((0, sum(model.widths.values())), np.float32), *(rows[i] for i in kept)]
    numbers = [kept[:0], *(structures[i - start].numbers for i in kept)]
    n_atoms = np.array([len(rows[i]) for i in kept], dtype=np.int64)
    return Features(np.concatenate(x), n_atoms, np.concatenate(numbers), kept, dropped)


def forward(model: LatentModel, graphs: Sequence, n_atoms: Sequence[int]) -> list[np.ndarray]:
    """(n_atoms, sum of widths) of each structure; in two halves if the memory is too small."""
    try:
        layers = model.features(graphs)
    except (MemoryError, RuntimeError) as error:  # PyTorch raises the latter
        full = isinstance(error, MemoryError) or "memory" in str(error).lower()
        if not full or len(graphs) == 1:
            raise
        n = len(graphs) // 2
        halves = (graphs[:n], n_atoms[:n]), (graphs[n:], n_atoms[n:])
        return [x for half in halves for x in forward(model, *half)]
    shapes = {name: x.shape for name, x in layers.items() if name in model.widths}
    expected = {name: (sum(n_atoms), width) for name, width in model.widths.items()}
    if shapes != expected:
        raise InputError(f"{model.name}: its layers have the shapes {shapes}, not {expected}.")
    with np.errstate(over="ignore"):  # not finite in single precision: the structure is dropped
        x = np.hstack([layers[name] for name in model.widths]).astype(np.float32)
    return np.split(x, np.cumsum(n_atoms)[:-1])


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
