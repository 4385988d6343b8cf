"""Latent features of the atoms of several structures, in memory and as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations
from pathlib import Path

import numpy as np

from ..resources import InputError, atomic_write

ARRAYS = ("features", "n_atoms", "numbers", "kept")
TEXTS = ("model", "layer", "fingerprint", "structures")


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
        (n_atoms,) atomic numbers. All 0 where a row describes a whole structure
        (`structure_features`), which then counts as one atom.
    kept
        (n_structures,) index of each kept structure in the input.
    dropped
        Index in the input, and why the model refused that structure.
    model, layer
        Names.
    fingerprint, structures
        Of the model (`models.base.identity`) and of all structures of the input
        (`structures.describe.fingerprint`); empty where they are not known. Features in which they
        differ are not compared.
    origin
        Where they come from: shipped, stored, extracted, or read from a file.

    Examples
    --------
    >>> water = Features(np.zeros((3, 2)), np.array([3]), np.array([8, 1, 1]), np.array([0]))
    >>> water.structure.tolist()
    [0, 0, 0]
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
    origin: str = field(default="", compare=False)

    @property
    def structure(self) -> np.ndarray:
        """(n_atoms,) input index of the structure that each atom belongs to."""
        return np.repeat(self.kept, self.n_atoms)

    def select(self, kept: np.ndarray) -> Features:
        """Only the structures whose input index is in `kept`."""
        chosen = np.isin(self.kept, kept)
        atoms = np.repeat(chosen, self.n_atoms)
        parts = {"features": self.features[atoms], "numbers": self.numbers[atoms]}
        return replace(self, n_atoms=self.n_atoms[chosen], kept=self.kept[chosen], **parts)

    def save(self, path: str | Path) -> None:
        """Write an NPZ file, whole or not at all.

        It is not compressed: features of real structures are as long as before to a tenth, and a
        small network takes 8 % less time than to extract and compress them.
        """
        with atomic_write(Path(path)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **vars(self) | {"dropped": json.dumps(self.dropped)})

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            It is no such file or damaged, or what it holds cannot be the features of structures.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                if data.zip.testzip():  # NumPy does not always read far enough to notice
                    raise ValueError("a checksum differs")
                found = {name: data[name] for name in (*ARRAYS, *TEXTS)}
                dropped = json.loads(str(data["dropped"])) if "dropped" in data else {}
        except Exception as error:  # whatever NumPy and the readers of zip files raise
            why = getattr(error, "strerror", None) or "it is no NPZ of arrays"
            why = error.args[0] if isinstance(error, KeyError) else why
            raise InputError(f"{path}: is not a file of extracted features ({why}).") from None
        if why := invalid_reason(*(found[name] for name in ARRAYS)):
            raise InputError(f"{path}: {why}.")
        found |= {name: str(found[name]) for name in TEXTS}
        dropped = {int(index): why for index, why in dropped.items()}
        return cls(**found, dropped=dropped, origin=f"file {path}")


def invalid_reason(
    x: np.ndarray, n_atoms: np.ndarray, numbers: np.ndarray, kept: np.ndarray
) -> str:
    """Why arrays cannot be the features of structures, nothing if they can."""
    if x.ndim != 2 or x.dtype.kind != "f" or not np.isfinite(x).all():
        return "features is not a table of finite numbers"
    if any(a.ndim != 1 or a.dtype.kind not in "iu" for a in (n_atoms, numbers, kept)):
        return "n_atoms, numbers and kept are not lists of whole numbers"
    if (n_atoms < 1).any() or (n_atoms > len(x)).any() or n_atoms.sum() != len(x):
        return "n_atoms does not add up to the rows of features"
    of_structures = not numbers.any() and (n_atoms == 1).all()
    if len(numbers) != len(x) or not (((numbers > 0) & (numbers < 119)).all() or of_structures):
        return "numbers does not give every row of features an element"
    if len(kept) != len(n_atoms) or (kept < 0).any() or (kept[1:] <= kept[:-1]).any():
        return "kept does not count upwards through the structures of n_atoms"
    return ""


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of one model and layer, those of some structures after those of others."""
    arrays = {name: np.concatenate([getattr(f, name) for f in parts]) for name in ARRAYS}
    dropped = {index: why for f in parts for index, why in f.dropped.items()}
    return replace(parts[0], **arrays, dropped=dropped)


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
    if not features:
        raise InputError("There are no features to compare.")
    kept = reduce(np.intersect1d, (f.kept for f in features))
    if len(kept) == 0:
        raise InputError("No structure is accepted by every compared model.")
    found = [f.select(kept) for f in features]
    for one, other in combinations(found, 2):
        known = one.structures and other.structures
        if (known and one.structures != other.structures) or not np.array_equal(
            one.numbers, other.numbers
        ):
            words = "do not describe the same structures"
            raise InputError(f"{one.model} and {other.model}: {words}.")
    return found
