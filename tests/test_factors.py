"""GFRE from blocks: the same as from whole tables, in any order and at full precision."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from umlip_latents import cumulant_features, reconstruction_matrix, split_atoms, streaming_gfre
from umlip_latents.factors import TriangularFactors, part_labels, turned_onto
from umlip_latents.resources import InputError

from .test_reconstruction import TABLES, TEST, TRAIN

EXPECTED = reconstruction_matrix(TABLES, TRAIN, TEST)
CUTS = (0, 7, 8, 60, 61, 200, 240)


def blocks(tables=TABLES, cuts=CUTS):
    return [{name: x[a:b] for name, x in tables.items()} for a, b in pairwise(cuts)]


def factors_of(block, start):
    rows = len(block["smooth"])
    return TriangularFactors().update(block, part_labels(TRAIN, TEST)[start : start + rows])


def test_blocks_give_the_errors_of_whole_tables():
    found = streaming_gfre(iter(blocks()), TRAIN, TEST)
    assert list(found.index) == list(found.columns) == list(TABLES)
    assert found.to_numpy() == pytest.approx(EXPECTED.to_numpy(), abs=1e-10)


def test_folds_by_structure_reach_the_blocks():
    owner = np.repeat(np.arange(40), 6)
    train, test = split_atoms(np.full(40, 6), 60, by="structure", seed=3)
    expected = reconstruction_matrix(TABLES, train, test, groups=owner)
    found = streaming_gfre(blocks(), train, test, groups=owner)
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-8)
    by_atom = streaming_gfre(blocks(), train, test)
    assert np.abs(found.to_numpy() - by_atom.to_numpy()).max() > 1e-4


@pytest.mark.parametrize("order", [range(6), (5, 2, 0, 4, 1, 3)])
def test_factors_merge_in_any_order(order):
    parts = [factors_of(b, start) for b, start in zip(blocks(), CUTS, strict=False)]
    merged = TriangularFactors()
    for i in order:
        merged = merged.merge(parts[i])
    assert merged.errors().to_numpy() == pytest.approx(EXPECTED.to_numpy(), abs=1e-10)
    tree = [parts[0].merge(parts[1]), parts[2].merge(parts[3]), parts[4].merge(parts[5])]
    found = tree[0].merge(tree[2].merge(tree[1])).errors()
    assert found.to_numpy() == pytest.approx(EXPECTED.to_numpy(), abs=1e-10)


def test_a_mean_far_above_the_spread_costs_no_digits():
    rng = np.random.default_rng(8)
    moved = {name: TABLES[name] + 1e8 * rng.normal() for name in ("smooth", "wide")}
    # what is left of the features at that height, brought back without rounding
    back = {name: x - x[0] for name, x in moved.items()}
    expected = reconstruction_matrix(back, TRAIN, TEST).to_numpy()
    assert reconstruction_matrix(moved, TRAIN, TEST).to_numpy() == pytest.approx(expected, abs=1e-9)
    found = streaming_gfre(blocks(moved), TRAIN, TEST).to_numpy()
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "spread", "varies"),
    [
        (0, 1e-11, True),
        (0, 1e-13, False),
        (1e8, 1e-3, True),
        (1e8, 1e-5, False),
        (-1e8, 1e-5, False),
    ],
)
def test_a_spread_within_the_rounding_of_the_mean_is_none(mean, spread, varies):
    x = mean + spread * np.where(np.arange(12) % 2, 1.0, -1.0)[:, None]
    split = np.arange(8), np.arange(8, 12)
    if varies:
        assert streaming_gfre([{"x": x}], *split).loc["x", "x"] < 1e-6
    else:
        with pytest.raises(InputError, match="x: features do not vary over the training atoms"):
            streaming_gfre([{"x": x}], *split)


def test_directions_of_relative_size_1e_9_are_kept():
    rng = np.random.default_rng(9)
    hidden = rng.normal(size=(400, 2))
    source = hidden * [1, 3e-9]
    train, test = split_atoms(np.full(40, 10), 100)
    tables = {"source": source, "target": hidden}
    found = streaming_gfre([{k: v[:150] for k, v in tables.items()},
                            {k: v[150:] for k, v in tables.items()}], train, test)  # fmt: skip
    assert found.loc["source", "target"] < 1e-5


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="same atoms"):
        streaming_gfre([{"a": np.ones((3, 1)), "b": np.ones((2, 1))}], [0, 1], [2])
    with pytest.raises(InputError, match="other models or widths"):
        streaming_gfre([{"a": np.eye(3)}, {"b": np.eye(3)}], [0, 1, 2, 3], [4])
    with pytest.raises(InputError, match="hold 3 atoms, the split names atom 8"):
        streaming_gfre([{"a": np.eye(3)}], [0, 1, 2, 3], [8])
    with pytest.raises(InputError, match="named twice"):
        streaming_gfre([{"a": np.eye(3)}], [0, 1, 2], [2])
    with pytest.raises(InputError, match="do not vary"):
        streaming_gfre([{"a": np.ones((9, 2))}], np.arange(6), [8])
    with pytest.raises(InputError, match="too few"):
        streaming_gfre([{"a": np.eye(3)}], [0, 1], [2])
    with pytest.raises(InputError, match="0 test atoms"):
        streaming_gfre([{"a": np.eye(5)}], np.arange(5), [])
    with pytest.raises(InputError, match="merged"):
        factors_of(blocks()[0], 0).merge(TriangularFactors().update({"a": np.eye(3)}, np.arange(3)))


def test_cumulants_of_blocks_of_structures_are_those_of_all():
    rng = np.random.default_rng(10)
    n_atoms = rng.integers(1, 9, 30)
    x = rng.normal(size=(n_atoms.sum(), 4))
    cut = n_atoms[:13].sum()
    found = [
        cumulant_features(x[:cut], n_atoms[:13], 5),
        cumulant_features(x[cut:], n_atoms[13:], 5),
    ]
    assert np.concatenate(found) == pytest.approx(cumulant_features(x, n_atoms, 5), rel=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e-1, 1e-2, 1e-5, 1e-9])
def test_what_is_left_of_a_column_keeps_its_digits(size):
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(30, 5)))[0]
    apart = rng.normal(size=(40, 3))
    apart[:30] -= axes @ (axes.T @ apart[:30])
    apart *= size / np.linalg.norm(apart, axis=0)
    columns = torch.from_numpy(np.vstack([axes @ rng.normal(size=(5, 3)), np.zeros((10, 3))]))
    columns += torch.from_numpy(apart)
    turned = turned_onto(torch.from_numpy(axes), columns, columns.square().sum(dim=0)).numpy()
    assert turned[:5] == pytest.approx(axes.T @ columns[:30].numpy(), rel=1e-12)
    assert turned[5] == pytest.approx(size, rel=max(1e-12, 1e-15 / size))
