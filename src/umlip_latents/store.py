"""Extracted features on disk: one Zarr group per block of structures, with provenance."""

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten

import numpy as np
import zarr
from filelock import FileLock
from tqdm import tqdm
from zarr.codecs import BloscCodec

from .resources import FORGOTTEN, InputError, made, refused

# chosen by measurement, see the book's page on benchmarks
PACKED = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")


class Damaged(InputError):
    """A block is not there, or not as it was written; the message names it."""


class FeatureStore:
    """A folder of finished blocks, each written under a temporary name and then renamed.

    Every array of a block is sealed: a SHA-256 over its values, its place, what was left out, and
    the provenance. What was changed, moved or lost since is not read. Seals are no signatures:
    who knows this code can make others.

    Parameters
    ----------
    path
        The folder; made if it is not there.
    provenance
        What the features come from. A store of another provenance is refused.

    Raises
    ------
    InputError
        The folder is of another provenance, or cannot be read or made.
    """

    def __init__(self, path: Path, provenance: Mapping[str, str]) -> None:
        self.path, self.provenance = path, dict(provenance)
        if not (path / "provenance").is_dir():
            made(path)
            self._put("provenance", {}, provenance)
        try:
            held = dict(zarr.open_group(path / "provenance", mode="r", zarr_format=3).attrs)
        except Exception:  # whatever Zarr raises
            words = "its provenance cannot be read, so that nobody knows what it holds; delete it"
            raise InputError(f"{path}: {words}.") from None
        for key, value in provenance.items():
            if held.get(key) != value:
                raise InputError(
                    f"{path}: holds features of {key} {held.get(key)}, not of {value}."
                )

    @contextmanager
    def writing(self, lock: str = ".lock") -> Iterator[None]:
        """For those who would otherwise do the same for this store side by side.

        What writers that were killed have left is deleted.
        """
        held = FileLock(self.path / lock)
        with refused(self.path):
            held.acquire()
        try:
            for left in self.path.glob("writing-*"):
                with suppress(FileNotFoundError):  # somebody writes without a lock
                    if time.time() - left.stat().st_mtime > FORGOTTEN:
                        shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            held.release()

    def _block(self, number: int) -> Path:
        return self.path / f"block-{number:06d}"

    def __contains__(self, number: int) -> bool:
        return self._block(number).is_dir()

    def read(
        self, number: int, names: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The named arrays of a block, and why structures were left out, by index.

        Raises
        ------
        InputError
            The block has no such array; as `Damaged`, it is not as it was written.
        """
        block = self._block(number)
        try:
            group = zarr.open_group(block, mode="r", zarr_format=3)
            seals, dropped = group.attrs["seals"], group.attrs["dropped"]
            stored = sorted(seals)
            arrays = {name: group[name] for name in names if name in seals}
            for name, array in arrays.items():
                if not seals[name].startswith(kind(array)):  # before there is memory taken for it
                    raise ValueError(f"{name} has another shape")
                arrays[name] = array[:]
                if self._seal(number, name, arrays[name], [stored, dropped]) != seals[name]:
                    raise ValueError(f"{name} has other values")
            if not arrays:
                raise ValueError(f"{', '.join(names)} cannot be found")
        except Exception as error:  # whatever Zarr and its codecs raise
            why = shorten(str(error), 100) or type(error).__name__
            raise Damaged(f"{block}: is not as it was written ({why}).") from None
        if lacking := sorted({*names} - {*stored}):
            words = f"holds {', '.join(stored)}, but no {', '.join(lacking)}"
            raise InputError(f"{self.path}: {words}.")
        return arrays, dropped

    def write(self, number: int, arrays: dict[str, np.ndarray], dropped: dict[str, str]) -> None:
        """Store a block."""
        about = [sorted(arrays), dropped]
        seals = {name: self._seal(number, name, array, about) for name, array in arrays.items()}
        self._put(self._block(number).name, arrays, {"dropped": dropped, "seals": seals})

    def sound(
        self, number: int, names: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
        """As `read`, and nothing where the block is damaged or not there."""
        try:
            return self.read(number, names)
        except Damaged:
            return None

    def discard(self, number: int) -> None:
        """Delete a damaged block, if there is one, and say so."""
        if number in self:
            words = "is not as it was written, and is computed again"
            tqdm.write(f"{self._block(number)}: {words}.", file=sys.stderr)
            with refused(self.path):
                shutil.rmtree(self._block(number))

    def _seal(self, number: int, name: str, array: np.ndarray, block: list) -> str:
        """Type, shape and SHA-256 of an array among the names and the refusals of its block."""
        place = [self.provenance, number, name, *block, kind(array)]
        digest = hashlib.sha256(json.dumps(place, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
        return kind(array) + digest.hexdigest()

    def _put(self, name: str, arrays: Mapping[str, np.ndarray], attributes: Mapping) -> None:
        """Write a group; it appears whole or not at all, and the first of two writers wins."""
        with refused(self.path):
            temporary = Path(tempfile.mkdtemp(prefix=f"writing-{name}-", dir=self.path))
            try:
                group = zarr.open_group(temporary, mode="a", zarr_format=3)
                for key, array in arrays.items():  # always read whole, so in one chunk
                    whole = tuple(max(1, n) for n in array.shape)
                    group.create_array(key, data=array, chunks=whole, compressors=PACKED)
                group.attrs.update(attributes)
                temporary.chmod(self.path.stat().st_mode)  # a temporary folder is its owner's alone
                temporary.rename(self.path / name)
            except OSError:
                if not (self.path / name).is_dir():
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


def kind(array: np.ndarray | zarr.Array) -> str:
    """Type and shape of an array."""
    return f"{array.dtype} {array.shape} "
