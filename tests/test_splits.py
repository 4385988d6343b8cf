"""What is held out stays together, and every number of test atoms is met."""

import numpy as np
import pytest
from ase import Atoms

from umlip_latents import load_structures, split_atoms
from umlip_latents.resources import InputError
from umlip_latents.splits import chemical_systems, split_by_origin, split_structures


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


@pytest.mark.parametrize("by", ["atom", "structure"])
def test_the_least_and_the_most_that_can_be_tested(by):
    single = np.ones(9, dtype=int)
    for n_test in (1, 7):
        train, test = split_atoms(single, n_test, by=by)
        assert (len(train), len(test)) == (9 - n_test, n_test)
    for n_test in (-1, 0, 8, 9):
        words = rf"n_test {n_test}: must lie between 1 and 7 for 9 atoms\.$"
        with pytest.raises(InputError, match=words):
            split_atoms(single, n_test, by=by)


def test_two_training_atoms_are_left_or_it_is_refused():
    train, test = split_atoms(np.array([2, 2]), 1, by="structure")
    assert (len(train), len(test)) == (2, 1)
    for seed in range(4):  # one atom would be left, or none
        with pytest.raises(InputError, match="n_test 2: leaves no structure for training"):
            split_atoms(np.array([1, 4]), 2, by="structure", seed=seed)


def test_a_seed_is_a_whole_number():
    with pytest.raises(InputError, match="seed -1"):
        split_atoms(np.ones(9, dtype=int), 3, seed=-1)


def test_a_third_of_the_trajectories_is_held_out_and_gives_frames_in_turn():
    for count, held_out in ((2, 1), (3, 1), (4, 2), (6, 2), (7, 3)):
        frames = [Atoms("H", info={"origin": i % count, "frame": i // count}) for i in range(28)]
        training, test = split_by_origin(frames, 99, 99)
        assert len({a.info["origin"] for a in test}) == held_out
        assert len({a.info["origin"] for a in training}) == count - held_out
        for part in (training, test):
            turns = [a.info["frame"] for a in part]
            assert turns == sorted(turns)
    with pytest.raises(InputError, match="5 structures of 1 origins"):
        split_by_origin([Atoms("H", info={"origin": "a"})] * 5, 1, 1)
    alone = split_by_origin([Atoms("H") for _ in range(6)], 99, 99)
    assert [len(part) for part in alone] == [4, 2]


def test_parts_are_disjoint_and_training_sees_every_element():
    embedded = load_structures("embedded")
    parts = split_structures(embedded, (100, 50), seed=3)
    assert [len(p) for p in parts] == [100, 50, len(embedded) - 150]
    assert sorted(np.concatenate(parts)) == list(range(len(embedded)))
    everything = {z for a in embedded for z in a.numbers}
    assert {z for i in parts[-1] for z in embedded[i].numbers} == everything
