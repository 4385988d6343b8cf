"""GFRE from blocks: the same as from whole tables, in any order and at full precision."""

import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from umlip_latents import reconstruction_matrix, split_atoms, streaming_gfre
from umlip_latents.measures.gfre import project_onto
from umlip_latents.resources import InputError

from .test_reconstruction import TABLES, TEST, TRAIN

CUTS = (0, 7, 8, 60, 61, 200, 240)


def blocks(tables=TABLES, cuts=CUTS):
    return [{name: x[a:b] for name, x in tables.items()} for a, b in pairwise(cuts)]


class Reader(Sequence):
    """Blocks that are read when they are asked for, and what has read them."""

    def __init__(self):
        self.threads = set()

    def __len__(self):
        return len(CUTS) - 1

    def __getitem__(self, number):
        self.threads.add(threading.current_thread().name)
        return blocks()[number]


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_tasks_read_the_blocks_and_however_many_there_are_find_what_one_block_gives(n_jobs):
    some = ["smooth", "wide", "onehot"]
    expected = streaming_gfre(blocks(cuts=(0, 240)), TRAIN, TEST, n_jobs=1).loc[some, some]
    reader = Reader()
    found = streaming_gfre(reader, TRAIN, TEST, n_jobs=n_jobs).loc[some, some]
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-12)
    assert ("MainThread" in reader.threads) == (n_jobs == 1)


def test_a_mean_far_above_the_spread_costs_no_digits():
    rng = np.random.default_rng(8)
    # what is left of the features at some height, brought back without rounding
    for height, error in ((1e8, reconstruction_matrix), (1e3, streaming_gfre)):
        moved = {name: TABLES[name] + height * rng.normal() for name in ("smooth", "wide")}
        back = {name: x - x[0] for name, x in moved.items()}
        expected = reconstruction_matrix(back, TRAIN, TEST).to_numpy()
        given = moved if error is reconstruction_matrix else blocks(moved)
        assert error(given, TRAIN, TEST).to_numpy() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "spread", "varies"),
    [(0, 1e-11, True), (0, 1e-13, False), (1e8, 1e-3, True), (-1e8, 1e-5, False)],
)
def test_a_spread_within_the_rounding_of_the_mean_is_none(mean, spread, varies):
    x = mean + spread * np.where(np.arange(12) % 2, 1.0, -1.0)[:, None]
    split = np.arange(8), np.arange(8, 12)
    for error in (reconstruction_matrix, lambda table, *s: streaming_gfre([table], *s)):
        if varies:
            assert error({"x": x}, *split).loc["x", "x"] < 1e-4
        else:
            with pytest.raises(InputError, match="x: features do not vary over the training atoms"):
                error({"x": x}, *split)


def test_directions_of_relative_size_1e_9_are_kept():
    hidden = np.random.default_rng(9).normal(size=(400, 2))
    tables = {"source": hidden * [1, 3e-9], "target": hidden}
    found = streaming_gfre(blocks(tables, (0, 150, 400)), *split_atoms(np.full(40, 10), 100))
    assert found.loc["source", "target"] < 1e-5


@pytest.mark.parametrize(
    ("given", "train", "test", "message"),
    [
        ([{"a": np.eye(3), "b": np.eye(2)}], [0, 1, 2, 3], [4], "Block 0: .* same"),
        ([{"a": np.eye(3)}, {"b": np.eye(3)}], [0, 1, 2, 3], [4], "Block 1: .* all other blocks"),
        ([{"a": np.eye(5)}], [0, 1, 2, 3], [8], "hold 5 atoms, the split names atom 8"),
        ([{"a": np.eye(3)}], [0, 1], [2], "too few"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(given, train, test, message):
    with pytest.raises(InputError, match=message):
        streaming_gfre(given, train, test)


@pytest.mark.parametrize("size", [1.0, 1e-1, 1e-2, 1e-5, 1e-9])
def test_what_is_left_of_a_column_keeps_its_digits(size):
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(40, 5)))[0]
    apart = rng.normal(size=(40, 3))
    apart -= axes @ (axes.T @ apart)
    apart *= size / np.linalg.norm(apart, axis=0)
    columns = torch.from_numpy(axes @ rng.normal(size=(5, 3)) + apart)
    turned = project_onto(torch.from_numpy(axes), columns).numpy()
    assert turned[:5] == pytest.approx(axes.T @ columns.numpy(), rel=1e-12)
    assert turned[5] == pytest.approx(size, rel=max(1e-12, 1e-15 / size))
