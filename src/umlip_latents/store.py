"""Extracted features on disk: one Zarr group per block of structures, with provenance."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import zarr
from filelock import FileLock

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

    def __init__(self, path: Path, provenance: Mapping[str, str]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "provenance").is_dir():
            self._put("provenance", {}, provenance)
        held = zarr.open_group(path / "provenance", mode="r").attrs
        for key, value in provenance.items():
            if held.get(key) != value:
                raise InputError(
                    f"{path}: holds features of {key} {held.get(key)}, not of {value}."
                )

    @property
    def writing(self) -> FileLock:
        """For those who would otherwise write the same blocks side by side."""
        return FileLock(self.path / ".lock")

    def _block(self, number: int) -> Path:
        return self.path / f"block-{number:06d}"

    def __contains__(self, number: int) -> bool:
        return self._block(number).is_dir()

    def read(
        self, number: int, names: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The named arrays of a block, and why structures were left out, by index."""
        group = zarr.open_group(self._block(number), mode="r")
        stored = sorted(group.array_keys())
        if lacking := sorted({*names}.difference(stored)):
            words = f"holds {', '.join(stored)}, but no {', '.join(lacking)}"
            raise InputError(f"{self.path}: {words}.")
        return {name: group[name][:] for name in names}, dict(group.attrs["dropped"])

    def write(self, number: int, arrays: dict[str, np.ndarray], dropped: dict[str, str]) -> None:
        """Store a block."""
        self._put(self._block(number).name, arrays, {"dropped": dropped})

    def _put(self, name: str, arrays: Mapping[str, np.ndarray], attributes: Mapping) -> None:
        """Write a group; it appears whole or not at all, and the first of two writers wins."""
        temporary = Path(tempfile.mkdtemp(prefix=f"writing-{name}-", dir=self.path))
        try:
            group = zarr.open_group(temporary, mode="a")
            for key, array in arrays.items():
                group[key] = array
            group.attrs.update(attributes)
            temporary.chmod(self.path.stat().st_mode)  # a temporary folder is its owner's alone
            temporary.rename(self.path / name)
        except OSError:
            if not (self.path / name).is_dir():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
