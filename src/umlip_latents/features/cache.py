"""Computed features on disk: a file of all layers for each block of structures."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from filelock import FileLock
from tqdm import tqdm

from ..models.base import LatentModel
from ..models.environments import RemoteModel
from ..resources import InputError, ensure_dir, wrap_os_error
from ..structures.describe import fingerprint
from .table import Features

BLOCK_SIZE = 64  # structures that one process computes, and stores, together


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
