"""Latent features of the atoms of several structures, in memory and as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .resources import InputError, written_whole


@dataclass
class Features:
    """Latent features of the atoms of several structures.

    Attributes
    ----------
    features
        (n_atoms, width), the atoms of one structure after the other.
    n_atoms
        (n_structures,) atoms of each kept structure.
    numbers
        (n_atoms,) atomic numbers.
    kept
        (n_structures,) index of each kept structure in the input.
    dropped
        Index in the input, and why the model refused that structure.
    """

    features: np.ndarray
    n_atoms: np.ndarray
    numbers: np.ndarray
    kept: np.ndarray
    dropped: dict[int, str] = field(default_factory=dict)
    model: str = ""
    layer: str = ""

    @property
    def structure(self) -> np.ndarray:
        """(n_atoms,) input index of the structure that each atom belongs to."""
        return np.repeat(self.kept, self.n_atoms)

    def select(self, kept: np.ndarray) -> Features:
        """Only the structures whose input index is in `kept`."""
        mask = np.isin(self.kept, kept)
        atoms = np.repeat(mask, self.n_atoms)
        x, numbers = self.features[atoms], self.numbers[atoms]
        whole = {"n_atoms": self.n_atoms[mask], "kept": self.kept[mask]}
        return replace(self, features=x, numbers=numbers, **whole)

    def save(self, path: str | Path) -> None:
        """Write an NPZ file with `features`, `n_atoms`, `numbers`, `kept`, and what they are."""
        names = ("features", "n_atoms", "numbers", "kept", "model", "layer")
        save_npz(path, **{name: getattr(self, name) for name in names})

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read a file that `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = [data[name] for name in ("features", "n_atoms", "numbers", "kept")]
                model, layer = str(data.get("model", Path(path).stem)), str(data.get("layer", ""))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: is not a file of extracted features ({error}).") from None
        found = cls(*arrays, model=model, layer=layer)
        if found.n_atoms.sum() != len(found.features):
            raise InputError(f"{path}: n_atoms does not add up to the rows of features.")
        return found


def save_npz(path: str | Path, **arrays: np.ndarray | str | int) -> None:
    """Write an NPZ file, whole or not at all."""
    try:
        with written_whole(Path(path)) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


def common_structures(features: Sequence[Features]) -> list[Features]:
    """The same features on the structures that every model accepts.

    Examples
    --------
    >>> def model(kept):
    ...     return Features(np.zeros((2, 1)), np.ones(2, int), np.ones(2, int), np.array(kept))
    >>> [f.kept.tolist() for f in common_structures([model([0, 1]), model([1, 2])])]
    [[1], [1]]
    """
    kept = reduce(np.intersect1d, (f.kept for f in features))
    if len(kept) == 0:
        raise InputError("No structure is accepted by every compared model.")
    return [f.select(kept) for f in features]
