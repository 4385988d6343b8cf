"""Laws of errors, splits and folds that hold for any numbers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umlip_latents import (
    global_reconstruction_error,
    local_reconstruction_error,
    reconstruction_matrix,
    split_atoms,
    streaming_gfre,
)
from umlip_latents.measures.regression import two_folds
from umlip_latents.resources import InputError

SEEDS = st.integers(0, 2**32 - 1)
WIDTHS = st.integers(1, 7)
SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=25).map(np.array)


def orthogonal(rng: np.random.Generator, n: int) -> np.ndarray:
    """A random rotation, or one with a reflection."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def problem(seed: int, widths: tuple[int, int], n: int = 90):
    """Two tables that share hidden causes, a split by structure, and the structure of each atom."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 4))
    x, y = (np.sin(hidden @ rng.normal(size=(4, w))) + rng.normal() for w in widths)
    owner = np.repeat(np.arange(n // 3), 3)
    train, test = split_atoms(np.full(n // 3, 3), n // 4, by="structure", seed=seed % 1000)
    return rng, x, y, train, test, owner


@given(SEEDS, WIDTHS, st.floats(0, 3), st.booleans())
def test_an_invertible_image_of_the_source_is_rebuilt_exactly(seed, width, decades, by_group):
    rng, x, _, train, test, owner = problem(seed, (width, 1))
    x = rng.normal(size=x.shape)
    scales = np.geomspace(1, 10**-decades, width)
    image = x @ (orthogonal(rng, width) * scales) @ orthogonal(rng, width) + rng.normal(size=width)
    groups = owner if by_group else None
    # the weakest of the smooth regularisations leaves 1e-6 squared over the smallest direction's
    limit = 1e-5 if by_group else 1e-9
    for source, target in ((x, image), (image, x)):
        options = {"train": train, "test": test, "groups": groups}
        assert global_reconstruction_error(source, target, **options) < limit


@given(SEEDS, WIDTHS, WIDTHS, st.floats(-3, 3), st.floats(-3, 3))
def test_errors_do_not_see_rotation_scale_and_shift(seed, a, b, up, right):
    rng, x, y, train, test, owner = problem(seed, (a, b))
    turned = 10**up * x @ orthogonal(rng, a) + rng.normal(size=a)
    other = 10**right * y @ orthogonal(rng, b) + rng.normal(size=b)
    # by atom scikit-matter's loss, a mean over columns, chooses: it sees a rotation of the target
    renamed = 10**right * y[:, rng.permutation(b)] * rng.choice([-1, 1], b) + rng.normal(size=b)
    for error, options in (
        (global_reconstruction_error, {}),
        (local_reconstruction_error, {"n_local_points": 20}),
    ):
        split = {"train": train, "test": test, **options}
        by_atom = error(x, y, **split)
        assert error(turned, renamed, **split) == pytest.approx(by_atom, rel=1e-6, abs=1e-9)
        by_group = error(x, y, **split, groups=owner)
        found = error(turned, other, **split, groups=owner)
        assert found == pytest.approx(by_group, rel=1e-6, abs=1e-9)


@given(SEEDS, WIDTHS, WIDTHS)
def test_the_numbering_of_the_atoms_is_irrelevant(seed, a, b):
    rng, x, y, train, test, owner = problem(seed, (a, b))
    order = rng.permutation(len(x))
    place = np.argsort(order)
    again = place[train], rng.permutation(place[test])
    for error, options in (
        (global_reconstruction_error, {}),
        (local_reconstruction_error, {"n_local_points": 16}),
    ):
        expected = error(x, y, train, test, groups=owner, **options)
        found = error(x[order], y[order], *again, groups=owner[order], **options)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(SEEDS, st.sets(st.integers(1, 89), max_size=8), st.booleans())
def test_blocks_of_any_size_give_the_matrix_of_whole_tables(seed, cuts, by_group):
    _, x, y, train, test, owner = problem(seed, (5, 3))
    tables, groups = {"x": x, "y": y}, owner if by_group else None
    expected = reconstruction_matrix(tables, train, test, groups=groups).to_numpy()
    spans = pairwise([0, *sorted(cuts), len(x)])
    blocks = [{name: table[i:j] for name, table in tables.items()} for i, j in spans]
    found = streaming_gfre(blocks, train, test, groups=groups, n_jobs=1).to_numpy()
    assert found == pytest.approx(expected, abs=1e-8)


@given(SIZES, st.data(), SEEDS)
def test_a_split_keeps_labels_together_and_loses_no_atom(n_atoms, data, seed):
    labels = st.lists(st.sampled_from("abcdef"), min_size=len(n_atoms), max_size=len(n_atoms))
    groups = data.draw(st.none() | labels)
    by = data.draw(st.sampled_from(["atom", "structure"]))
    n_test = data.draw(st.integers(1, int(n_atoms.sum())))
    try:
        train, test = split_atoms(n_atoms, n_test, by=by, groups=groups, seed=seed)
    except InputError:  # two atoms at least are left to train on, and whole groups go
        assert by == "structure" or n_test >= n_atoms.sum() - 1
        return
    assert len(test) == n_test
    assert len(train) >= 2
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    every = set(range(n_atoms.sum()))
    assert not {*train} & {*test}
    if by == "atom":
        assert {*train} | {*test} == every
    else:
        label = np.repeat(np.arange(len(n_atoms)) if groups is None else groups, n_atoms)
        assert not {*label[train]} & {*label[test]}
        # an atom in neither part is of a group that is held out
        dropped = sorted(every - {*train} - {*test})
        assert not {*label[dropped]} & {*label[train]}
        # no group more than is needed
        assert len(dropped) < np.unique(label, return_counts=True)[1].max()


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40).map(np.array))
def test_folds_keep_groups_together_and_are_as_even_as_those_allow(groups):
    if len(set(groups)) < 2:
        with pytest.raises(InputError, match="two groups"):
            two_folds(len(groups), groups)
        return
    one, two = two_folds(len(groups), groups)
    assert sorted([*one, *two]) == list(range(len(groups)))
    assert not {*groups[one]} & {*groups[two]}
    assert abs(len(one) - len(two)) <= np.bincount(groups).max()
    # without a draw the largest group leads, of equal ones the smaller label
    one, _ = two_folds(len(groups), groups, shuffle=False)
    assert {*np.flatnonzero(groups == np.bincount(groups).argmax())} <= {*one}
