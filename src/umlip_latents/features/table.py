"""Latent features of the atoms of several structures, in memory and as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
from ase import Atoms
from ase.data import chemical_symbols

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

    def per_structure(self) -> list[np.ndarray]:
        """(n_atoms, width) features of each kept structure."""
        return np.split(self.features, np.cumsum(self.n_atoms)[:-1])

    def select(self, kept: np.ndarray) -> Features:
        """Only the structures whose input index is in `kept`."""
        chosen = np.isin(self.kept, kept)
        atoms = np.repeat(chosen, self.n_atoms)
        parts = {"features": self.features[atoms], "numbers": self.numbers[atoms]}
        return replace(self, n_atoms=self.n_atoms[chosen], kept=self.kept[chosen], **parts)

    def to_frame(self) -> pd.DataFrame:
        """A row per atom: ``element``, and each feature, by ``structure`` and ``atom`` in it.

        Where a row describes a whole structure, it has neither element nor number.

        Examples
        --------
        >>> water = Features(np.eye(3), np.array([3]), np.array([8, 1, 1]), np.array([5]))
        >>> [*water.to_frame().reset_index()]
        ['structure', 'atom', 'element', 'feature_0', 'feature_1', 'feature_2']
        """
        columns = [f"feature_{i}" for i in range(self.features.shape[1])]
        table = pd.DataFrame(self.features, pd.Index(self.structure, name="structure"), columns)
        if not self.numbers.any():
            return table
        table.insert(0, "element", np.array(chemical_symbols)[self.numbers])
        atom = np.concatenate([np.arange(n) for n in self.n_atoms])
        return table.set_index(pd.Index(atom, name="atom"), append=True)

    def to_atoms(self, structures: Sequence[Atoms]) -> list[Atoms]:
        """Copies of the kept structures, labels included, with `features` as an array of each.

        Raises
        ------
        InputError
            These are not the structures that the features were extracted from.

        Examples
        --------
        >>> found = Features(np.ones((1, 2)), np.array([1]), np.array([29]), np.array([0]))
        >>> found.to_atoms([Atoms("Cu")])[0].arrays["features"].tolist()
        [[1.0, 1.0]]
        """
        kept = [structures[i] for i in self.kept if i < len(structures)]
        if not np.array_equal([z for atoms in kept for z in atoms.numbers], self.numbers):
            raise InputError(f"{self.model}: its features are those of other structures.")
        copies = [atoms.copy() for atoms in kept]
        for atoms, copy, x in zip(kept, copies, self.per_structure(), strict=True):
            copy.calc, copy.arrays["features"] = atoms.calc, x
        return copies

    def save(self, path: str | Path, structures: Sequence[Atoms] = ()) -> None:
        """Write a file, whole or not at all: NPZ, which `load` and every command read, or another.

        NPZ is not compressed: features of real structures are as long as before to a tenth, and a
        small network takes 8 % less time than to extract and compress them.

        Parameters
        ----------
        path
            What ends in ``.csv`` is the table of `to_frame`, what ends in ``.extxyz`` has the
            structures of `to_atoms`, with eight decimals, and all else is NPZ.
        structures
            Those of the input, for ``.extxyz``.
        """
        path = Path(path)
        ending = path.suffix.lower()
        with atomic_write(path) as temporary:
            if ending == ".csv":
                self.to_frame().to_csv(temporary)
            elif ending == ".extxyz":
                ase.io.write(temporary, self.to_atoms(structures), format="extxyz")
            else:
                with open(temporary, "wb") as stream:
                    np.savez(stream, **vars(self) | {"dropped": json.dumps(self.dropped)})

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read an NPZ file that `save` wrote.

        Raises
        ------
        InputError
            It is no such file or damaged, or what it holds cannot be the features of structures.
        """
        found = read_arrays(path, *ARRAYS, *TEXTS)
        if why := invalid_reason(found):
            raise InputError(f"{path}: {why}.")
        return cls.from_arrays(found, f"file {path}")

    @classmethod
    def from_arrays(cls, found: dict[str, np.ndarray], origin: str) -> Features:
        """Features of the arrays that a file of them holds."""
        arrays, texts = ({n: found[n] for n in names} for names in (ARRAYS, TEXTS))
        dropped = json.loads(str(found.get("dropped", "{}")))
        texts = {name: str(text) for name, text in texts.items()}
        dropped = {int(index): why for index, why in dropped.items()}
        return cls(**arrays, **texts, dropped=dropped, origin=origin)


def read_arrays(path: str | Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file, these among them; raises `InputError` if they cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if data.zip.testzip():  # NumPy does not always read far enough to notice
                raise ValueError("a checksum differs")
            return {name: data[name] for name in (*names, *data.files)}
    except Exception as error:  # whatever NumPy and the readers of zip files raise
        why = getattr(error, "strerror", None) or "it is no NPZ of arrays"
        why = error.args[0] if isinstance(error, KeyError) else why
        raise InputError(f"{path}: is not a file of extracted features ({why}).") from None


def invalid_reason(found: dict[str, np.ndarray]) -> str:
    """Why arrays cannot be the features of structures, nothing if they can."""
    x, n_atoms, numbers, kept = (found[name] for name in ARRAYS)
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
        alike = one.structures == other.structures or not (one.structures and other.structures)
        if not alike or not np.array_equal(one.numbers, other.numbers):
            words = "do not describe the same structures"
            raise InputError(f"{one.model} and {other.model}: {words}.")
    return found
