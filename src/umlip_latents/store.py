"""Extracted features on disk: one Zarr group per block of structures, with provenance."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .resources import InputError


class FeatureStore:
    """A folder of finished blocks, each written under a temporary name and then renamed.

    Parameters
    ----------
    path
        The folder; made if it is not there.
    provenance
        What the features come from. A store of another provenance is refused.
    """

    def __init__(self, path: Path, provenance: dict[str, Any]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(path / "provenance", mode="a")
        if len(group.attrs) == 0:
            group.attrs.update(provenance)
        for key in ("model", "fingerprint", "structures"):
            if group.attrs.get(key) != provenance[key]:
                raise InputError(
                    f"{path}: holds features of {key} {group.attrs.get(key)}, "
                    f"not of {provenance[key]}."
                )

    def _block(self, number: int) -> Path:
        return self.path / f"block-{number:06d}"

    def __contains__(self, number: int) -> bool:
        return self._block(number).is_dir()

    def read(self, number: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The arrays of a block, and why structures were left out, by index."""
        group = zarr.open_group(self._block(number), mode="r")
        arrays = {name: np.asarray(group[name][:]) for name in group.array_keys()}
        return arrays, dict(group.attrs.get("dropped", {}))

    def write(self, number: int, arrays: dict[str, np.ndarray], dropped: dict[str, str]) -> None:
        """Store a block; it appears whole or not at all."""
        temporary = self.path / f"writing-{number:06d}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        zarr.save_group(temporary, **arrays)
        zarr.open_group(temporary, mode="a").attrs["dropped"] = dropped
        temporary.rename(self._block(number))
