"""Extracted features on disk: one Zarr group per block of structures, with provenance."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
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

    def read(
        self, number: int, names: Sequence[str] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The arrays of a block, all or those named, and why structures were left out, by index."""
        group = zarr.open_group(self._block(number), mode="r")
        stored = set(group.array_keys())
        if not stored.issuperset(names or ()):
            lacking = ", ".join(sorted(set(names) - stored))
            raise InputError(f"{self.path}: holds {', '.join(sorted(stored))}, but no {lacking}.")
        arrays = {name: np.asarray(group[name][:]) for name in names or stored}
        return arrays, dict(group.attrs.get("dropped", {}))

    def write(self, number: int, arrays: dict[str, np.ndarray], dropped: dict[str, str]) -> None:
        """Store a block; it appears whole or not at all, and the first of two writers wins."""
        temporary = Path(tempfile.mkdtemp(prefix=f"writing-{number:06d}-", dir=self.path))
        try:
            zarr.save_group(temporary, **arrays)
            zarr.open_group(temporary, mode="a").attrs["dropped"] = dropped
            temporary.chmod(self.path.stat().st_mode)  # a temporary folder is its owner's alone
            temporary.rename(self._block(number))
        except OSError:
            if number not in self:
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
