"""Latent features of the atoms of several structures, in memory and as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np

from .resources import InputError, written_whole

# what a file holds
ARRAYS = ("features", "n_atoms", "numbers", "kept")
ABOUT = ("model", "layer", "fingerprint", "structures")


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
    model, layer
        Names.
    fingerprint, structures
        Of the model, `models.base.identity`, and of all structures of the input,
        `structures.fingerprint`; empty where they are not known. Features in which they differ
        are not compared.
    """

    features: np.ndarray
    n_atoms: np.ndarray
    numbers: np.ndarray
    kept: np.ndarray
    dropped: dict[int, str] = field(default_factory=dict)
    model: str = ""
    layer: str = ""
    fingerprint: str = ""
    structures: str = ""

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
        """Write an NPZ file with everything but `dropped`."""
        save_npz(path, **{name: getattr(self, name) for name in (*ARRAYS, *ABOUT)})

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            It is no such file, or what it holds cannot be the features of structures.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                held = {name: data[name] for name in (*ARRAYS, *ABOUT)}
        except KeyError as error:
            words = f"has no {error.args[0].split()[0]}; extract the features anew"
            raise InputError(f"{path}: {words}.") from None
        except Exception as error:  # whatever NumPy and the readers of zip files raise
            why = getattr(error, "strerror", None) or "it is no NPZ of arrays"
            raise InputError(f"{path}: is not a file of extracted features ({why}).") from None
        if why := fault(*(held[name] for name in ARRAYS)):
            raise InputError(f"{path}: {why}.")
        return cls(**held | {name: str(held[name]) for name in ABOUT})


def fault(x: np.ndarray, n_atoms: np.ndarray, numbers: np.ndarray, kept: np.ndarray) -> str:
    """Why arrays cannot be the features of structures, nothing if they can."""
    if x.ndim != 2 or x.dtype.kind != "f" or not np.isfinite(x).all():
        return "features is not a table of finite numbers"
    if any(a.ndim != 1 or a.dtype.kind not in "iu" for a in (n_atoms, numbers, kept)):
        return "n_atoms, numbers and kept are not lists of whole numbers"
    if not len(kept) == len(n_atoms) > 0:
        return "kept and n_atoms do not name the same structures"
    if (n_atoms < 1).any() or (n_atoms > len(x)).any() or n_atoms.sum() != len(x):
        return "n_atoms does not add up to the rows of features"
    if len(numbers) != len(x) or (numbers < 1).any() or (numbers > 118).any():
        return "numbers does not give every row of features an element"
    if kept[0] < 0 or (kept[1:] <= kept[:-1]).any():
        return "kept does not count upwards"
    return ""


def save_npz(path: str | Path, **arrays: np.ndarray | str | int) -> None:
    """Write an NPZ file, whole or not at all."""
    with written_whole(Path(path)) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def common_structures(features: Sequence[Features]) -> list[Features]:
    """The same features on the structures that every model accepts.

    Raises
    ------
    InputError
        Features of different sets of structures, or no structure that all accept.

    Examples
    --------
    >>> def model(kept):
    ...     return Features(np.zeros((2, 1)), np.ones(2, int), np.ones(2, int), np.array(kept))
    >>> [f.kept.tolist() for f in common_structures([model([0, 1]), model([1, 2])])]
    [[1], [1]]
    """
    one, *others = [f for f in features if f.structures] or features
    for other in others:
        if other.structures != one.structures:
            raise InputError(f"{one.model} and {other.model}: do not describe the same structures.")
    kept = reduce(np.intersect1d, (f.kept for f in features))
    if len(kept) == 0:
        raise InputError("No structure is accepted by every compared model.")
    return [f.select(kept) for f in features]
