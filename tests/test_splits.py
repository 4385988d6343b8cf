"""What is held out stays together, and every number of test atoms is met."""

import numpy as np
import pytest

from umlip_latents import load_structures, split_atoms
from umlip_latents.resources import InputError
from umlip_latents.splits import (
    chemical_systems,
    split_structures,
)


def test_split_by_structure_keeps_structures_whole():
    sizes = np.array([3, 10, 1, 7, 20, 4, 4, 9])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(5):
        train, test = split_atoms(sizes, 15, by="structure", seed=seed)
        assert len(test) == 15
        assert not set(owner[train]) & set(owner[test])


def test_split_by_atom_is_a_partition_and_depends_on_the_seed():
    train, test = split_atoms(np.array([50, 50]), 30, seed=0)
    assert sorted([*train, *test]) == list(range(100))
    assert (split_atoms(np.array([50, 50]), 30, seed=0)[1] == test).all()
    assert (split_atoms(np.array([50, 50]), 30, seed=1)[1] != test).any()


def test_groups_stay_together():
    sizes = np.array([3, 10, 1, 7, 20, 4, 4, 9])
    groups = np.array(["a", "b", "a", "c", "d", "b", "c", "a"])
    owner = np.repeat(groups, sizes)
    for seed in range(5):
        train, test = split_atoms(sizes, 12, by="structure", groups=groups, seed=seed)
        assert len(test) == 12
        assert not set(owner[train]) & set(owner[test])


def test_chemical_systems_are_sets_of_elements():
    numbers = np.array([8, 1, 1, 11, 17, 1, 8])
    assert chemical_systems(numbers, np.array([3, 2, 2])).tolist() == ["H-O", "Cl-Na", "H-O"]


def test_bad_splits_are_refused():
    with pytest.raises(InputError, match="n_test 100"):
        split_atoms(np.array([50, 50]), 100)
    with pytest.raises(InputError, match="by atom or by structure"):
        split_atoms(np.array([50, 50]), 10, by="element")
    with pytest.raises(InputError, match="leaves no structure"):
        split_atoms(np.array([50]), 10, by="structure")


def test_parts_are_disjoint_and_training_sees_every_element():
    embedded = load_structures("embedded")
    parts = split_structures(embedded, (100, 50), seed=3)
    assert [len(p) for p in parts] == [100, 50, len(embedded) - 150]
    assert sorted(np.concatenate(parts)) == list(range(len(embedded)))
    everything = {z for a in embedded for z in a.numbers}
    assert {z for i in parts[-1] for z in embedded[i].numbers} == everything
