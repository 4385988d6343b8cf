"""Every way to hold out: atoms, structures, chemical systems, trajectories."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from ase import Atoms
from ase.symbols import Symbols

from ..resources import InputError, check_at_least
from .describe import group_by_origin

SPLIT_KINDS = ("atom", "structure", "system")


def chemical_systems(numbers: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
    """The set of elements of each structure, such as ``Cl-Na``.

    Parameters
    ----------
    numbers
        (n_atoms_total,) atomic numbers, the atoms of one structure after the other.
    n_atoms
        (n_structures,), atoms of each structure.

    Returns
    -------
    numpy.ndarray
        (n_structures,) of text.

    Examples
    --------
    >>> chemical_systems(np.array([11, 17, 8, 8]), np.array([2, 2])).tolist()
    ['Cl-Na', 'O']
    """
    parts = np.split(np.asarray(numbers), np.cumsum(n_atoms)[:-1])
    return np.array(["-".join(sorted(set(Symbols(part)))) for part in parts])


def split_atoms(
    n_atoms: np.ndarray,
    n_test: int,
    *,
    by: str = "atom",
    groups: Sequence | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test atoms, chosen atom by atom or structure by structure.

    Parameters
    ----------
    n_atoms
        (n_structures,), atoms of each structure.
    n_test
        Number of test atoms. By structure, whole structures are drawn until they hold that many,
        then atoms are dropped at random from the test part to reach it.
    by
        ``"atom"``: test atoms have siblings of the same structure in training, which leaks.
        ``"structure"``: no structure has atoms on both sides.
    groups
        (n_structures,) labels: by structure, those of one label, such as a trajectory or a
        chemical system, stay on one side.
    seed
        Of the draw.

    Returns
    -------
    train, test : numpy.ndarray
        Sorted atom indices.

    Raises
    ------
    InputError
        An unknown way to split, or a number of test atoms that leaves nothing to train on.

    Examples
    --------
    >>> train, test = split_atoms(np.array([2, 3, 2, 3]), 3, by="structure")
    >>> len(train), len(test)
    (6, 3)
    """
    n_atoms = np.asarray(n_atoms)
    total = int(n_atoms.sum())
    if by not in ("atom", "structure"):
        raise InputError(f"{by}: a split goes by atom or by structure.")
    if not 0 < n_test < total - 1:
        raise InputError(f"n_test {n_test}: must lie between 1 and {total - 2} for {total} atoms.")
    check_at_least(0, seed=seed)
    if by == "atom":  # as if each were a structure
        n_atoms, groups = np.ones(total, dtype=int), None
    rng = np.random.default_rng(seed)
    _, group = np.unique(np.arange(len(n_atoms)) if groups is None else groups, return_inverse=True)
    sizes = np.bincount(group, weights=n_atoms)
    order = rng.permutation(len(sizes))
    n_groups = int(np.searchsorted(np.cumsum(sizes[order]), n_test)) + 1
    held_out = np.repeat(np.isin(group, order[:n_groups]), n_atoms)
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if len(train) < 2:
        raise InputError(f"n_test {n_test}: leaves no structure for training.")
    return train, np.sort(rng.choice(test, n_test, replace=False))


def split_structures(
    structures: Sequence[Atoms], sizes: Sequence[int], seed: int
) -> list[np.ndarray]:
    """Random disjoint parts of given sizes, and the rest, in which every element stays present.

    A structure goes to a part only while each of its elements is left in another structure, so a
    model trained on the rest has seen every element.

    Parameters
    ----------
    structures
        To divide.
    sizes
        Largest number of structures of each part.
    seed
        Of the order in which they are dealt.

    Returns
    -------
    list of numpy.ndarray
        Sorted indices of each part, the rest last.

    Examples
    --------
    >>> [len(part) for part in split_structures([Atoms("H")] * 5, (2, 1), seed=0)]
    [2, 1, 2]
    """
    left = Counter(z for atoms in structures for z in {*atoms.numbers})
    *parts, rest = ([] for _ in (*sizes, None))
    for index in np.random.default_rng(seed).permutation(len(structures)):
        elements = {*structures[index].numbers}
        free = [part for part, size in zip(parts, sizes, strict=True) if len(part) < size]
        if free and all(left[z] > 1 for z in elements):
            left.subtract(elements)
            free[0].append(index)
        else:
            rest.append(index)
    return [np.sort(np.array(part, dtype=int)) for part in (*parts, rest)]


def split_by_origin(
    structures: Sequence[Atoms], n_training: int, n_test: int, *, seed: int = 0
) -> tuple[list[Atoms], list[Atoms]]:
    """Training and test structures such that no trajectory has both; see `group_by_origin`.

    A third of the origins, drawn at random, is for the test. Each part takes the first frame of
    every origin, then the second, and so on, so that a small part is as diverse as it can be; it
    is smaller where there are not that many.

    Parameters
    ----------
    structures
        Of two origins at least.
    n_training, n_test
        Largest number of structures of each part.
    seed
        Of the draw of origins.

    Returns
    -------
    training, test : list of ase.Atoms

    Raises
    ------
    InputError
        All structures are of one origin.

    Examples
    --------
    >>> frames = [Atoms("H", info={"origin": f"run {i % 3}"}) for i in range(9)]
    >>> training, test = split_by_origin(frames, 4, 2)
    >>> {a.info["origin"] for a in training} & {a.info["origin"] for a in test}
    set()
    """
    origin = pd.Series(group_by_origin(structures))
    names = np.random.default_rng(seed).permutation(np.unique(origin))
    if len(names) < 2:
        raise InputError(f"{len(structures)} structures of {len(names)} origins: two are needed.")
    place = origin.map({name: place for place, name in enumerate(names)})
    order = np.lexsort([place, origin.groupby(origin).cumcount()])  # frame by frame
    held_out = place[order].to_numpy() < len(names) / 3
    chosen = order[~held_out][:n_training], order[held_out][:n_test]
    training, test = ([structures[i] for i in part] for part in chosen)
    return training, test
