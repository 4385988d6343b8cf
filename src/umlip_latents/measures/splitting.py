"""How test atoms are held out, and with what they belong together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..features.table import Features
from ..resources import InputError, check_at_least
from ..structures.splits import SPLIT_KINDS, chemical_systems, split_atoms
from .preprocess import with_known_element

Atoms = tuple[np.ndarray, np.ndarray]  # indices of the training and test atoms


@dataclass(frozen=True)
class Split:
    """How test atoms are held out, as often as `compare` has splits.

    Attributes
    ----------
    by
        What is held out: whole structures (``"structure"``), all structures of a set of elements
        (``"system"``), or single atoms (``"atom"``), whose siblings then leak into the training.
    groups
        A label for every input structure: those of one label, such as a trajectory, are held out
        together.
    n_test
        Test atoms of a split; by default a quarter of all, at most 1000.
    train_share
        Of the groups that are not held out, the share that is trained on: for learning curves. A
        smaller share is part of a larger one.
    seed
        Of the first split; the second has the next one.

    Raises
    ------
    InputError
        An unknown way to split, or a number out of range.
    """

    by: str = "structure"
    groups: Sequence | None = None
    n_test: int | None = None
    train_share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in SPLIT_KINDS:
            raise InputError(f"split by {self.by}: {', '.join(SPLIT_KINDS)} are known.")
        if not 0 < self.train_share <= 1:
            raise InputError(f"train_share {self.train_share}: must lie between 0 and 1.")


def draw_splits(
    features: Features, split: Split, n_splits: int, within_element: bool
) -> tuple[np.ndarray, list[Atoms]]:
    """(n_atoms,) what each atom is held out with, and training and test atoms of each split.

    It is held out with its structure, its chemical system, or the label of its structure.
    """
    check_at_least(1, n_splits=n_splits)
    owners, numbers, n_atoms = features.kept, features.numbers, features.n_atoms
    if split.groups is not None:
        if len(split.groups) <= owners.max():
            raise InputError(f"{len(split.groups)} groups do not label all input structures.")
        owners = np.asarray(split.groups)[owners]
    elif split.by == "system":
        owners = chemical_systems(numbers, n_atoms)
    owners = np.unique(owners, return_inverse=True)[1]
    labels = np.repeat(owners, n_atoms)
    n_test = max(1, min(1000, len(labels) // 4)) if split.n_test is None else split.n_test
    by, splits = split.by.replace("system", "structure"), []
    for seed in range(split.seed, split.seed + n_splits):
        train, test = split_atoms(n_atoms, n_test, by=by, groups=owners, seed=seed)
        left = np.random.default_rng(seed).permutation(np.unique(labels[train]))
        share = left[: max(2, round(split.train_share * len(left)))]
        train = train[np.isin(labels[train], share)]
        splits.append((train, with_known_element(numbers, train, test) if within_element else test))
    return labels, splits
