"""What is held out stays together, and every number of test atoms is met."""

import numpy as np
import pytest
from ase import Atoms

from umlip_latents import split_atoms
from umlip_latents.resources import InputError
from umlip_latents.structures.splits import split_by_origin


def test_bad_splits_are_refused():
    with pytest.raises(InputError, match="n_test 100"):
        split_atoms(np.array([50, 50]), 100)
    with pytest.raises(InputError, match="by atom or by structure"):
        split_atoms(np.array([50, 50]), 10, by="element")
    for sizes in ([50], [1, 4]):  # no atom would be left, or one
        with pytest.raises(InputError, match="leaves no structure for training"):
            split_atoms(np.array(sizes), 2, by="structure", seed=0)
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
