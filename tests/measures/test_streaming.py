"""GFRE from blocks: the same as from whole tables, in any order and at full precision."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from umlip_latents import CUTOFF, reconstruction_matrix, split_atoms, streaming_gfre
from umlip_latents.measures.gfre import project_onto
from umlip_latents.measures.regression import two_folds
from umlip_latents.measures.streaming import (
    factor_errors,
    factorize_block,
    locate_blocks,
    merge_factors,
)
from umlip_latents.resources import InputError

from .test_reconstruction import TABLES, TEST, TRAIN

EXPECTED = reconstruction_matrix(TABLES, TRAIN, TEST).to_numpy()
CUTS = (0, 7, 8, 60, 61, 200, 240)


def blocks(tables=TABLES, cuts=CUTS):
    return [{name: x[a:b] for name, x in tables.items()} for a, b in pairwise(cuts)]


def factors():
    parts = [*(TRAIN[half] for half in two_folds(len(TRAIN))), TEST]
    return [factorize_block(*task) for task in locate_blocks(blocks(), parts)]


def test_blocks_give_the_errors_of_whole_tables():
    for given in (iter(blocks()), blocks()):
        found = streaming_gfre(given, TRAIN, TEST, n_jobs=2)
        assert list(found.index) == list(found.columns) == list(TABLES)
        assert found.to_numpy() == pytest.approx(EXPECTED, abs=1e-9)


def test_folds_by_structure_reach_the_blocks():
    owner = np.repeat(np.arange(40), 6)
    split = split_atoms(np.full(40, 6), 60, by="structure", seed=3)
    expected = reconstruction_matrix(TABLES, *split, groups=owner).to_numpy()
    found = streaming_gfre(blocks(), *split, groups=owner).to_numpy()
    assert found == pytest.approx(expected, abs=1e-8)
    assert np.abs(found - streaming_gfre(blocks(), *split).to_numpy()).max() > 1e-4


@pytest.mark.parametrize("order", [range(6), (5, 2, 0, 4, 1, 3)])
def test_factors_merge_in_any_order(order):
    parts = factors()
    found = factor_errors(merge_factors([parts[i] for i in order]), regularization=CUTOFF)
    assert found.to_numpy() == pytest.approx(EXPECTED, abs=1e-9)


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
        ([{"a": np.ones((3, 1)), "b": np.ones((2, 1))}], [0, 1], [2], "same atoms"),
        ([{"a": np.eye(3)}, {"b": np.eye(3)}], [0, 1, 2, 3], [4], "other models or widths"),
        ([{"a": np.eye(3)}], [0, 1, 2, 3], [8], "hold 3 atoms, the split names atom 8"),
        ([{"a": np.eye(3)}], [0, 1, 2], [2], "named twice"),
        ([{"a": np.ones((9, 2))}], np.arange(6), [8], "do not vary"),
        ([{"a": np.eye(3)}], [0, 1], [2], "too few"),
        ([{"a": np.eye(5)}], np.arange(5), [], "0 test atoms"),
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
