"""Laws that hold for any numbers: of the errors, the cumulants, the splits and what is kept."""

import contextlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from umlip_latents import (
    Features,
    Regularization,
    cumulant_features,
    extract_features,
    extraction,
    global_reconstruction_error,
    local_reconstruction_error,
    reconstruction_matrix,
    split_atoms,
    streaming_gfre,
)
from umlip_latents.factors import TriangularFactors, part_labels
from umlip_latents.regression import default_regularization, local_folds, two_folds
from umlip_latents.resources import InputError
from umlip_latents.splits import split_by_origin, split_structures
from umlip_latents.store import FeatureStore

from .test_cumulants import plain

SEEDS = st.integers(0, 2**32 - 1)
WIDTHS = st.integers(1, 7)
LEAST_SQUARES = Regularization("cutoff", (1e-12,))
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


@given(SEEDS, st.integers(2, 9), WIDTHS)
def test_least_squares_never_lose_by_more_source_features(seed, a, b):
    _, x, y, train, *_ = problem(seed, (a, b))
    # the training atoms once more, as the test atoms
    rows, n = np.concatenate([train, train]), len(train)
    errors = [
        global_reconstruction_error(
            x[rows, :w], y[rows], np.arange(n), n + np.arange(n), regularization=LEAST_SQUARES
        )
        for w in range(1, a + 1)
    ]
    assert all(more <= fewer + 1e-9 for fewer, more in pairwise(errors))
    assert errors[0] <= 1 + 1e-9


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


@given(SEEDS, st.sets(st.integers(1, 89), max_size=8), st.booleans(), st.randoms())
def test_blocks_of_any_size_give_the_matrix_of_whole_tables(seed, cuts, by_group, random):
    _, x, y, train, test, owner = problem(seed, (5, 3))
    tables, groups = {"x": x, "y": y}, owner if by_group else None
    expected = reconstruction_matrix(tables, train, test, groups=groups).to_numpy()
    spans = list(pairwise([0, *sorted(cuts), len(x)]))
    blocks = [{name: table[i:j] for name, table in tables.items()} for i, j in spans]
    found = streaming_gfre(iter(blocks), train, test, groups=groups).to_numpy()
    assert found == pytest.approx(expected, abs=1e-8)
    labels = part_labels(train, test, groups)
    heap = [
        TriangularFactors().update(block, labels[i:j])
        for block, (i, j) in zip(blocks, spans, strict=True)
    ]
    while len(heap) > 1:
        random.shuffle(heap)
        heap.append(heap.pop().merge(heap.pop()))
    found = heap[0].errors(default_regularization(groups)).to_numpy()
    assert found == pytest.approx(expected, abs=1e-8)


def tables(rows: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    """(rows, 2) numbers of very different size, repeated ones among them."""
    values = st.floats(-1e3, 1e3) | st.integers(-3, 3).map(float)
    return rows.flatmap(lambda n: arrays(np.float64, (n, 2), elements=values))


SAMPLES = tables(st.integers(1, 12))
ORDERS = np.arange(1, 9)[:, None]


def same(found, expected, size):
    """Whether cumulants agree within the rounding of samples of a size, (2,)."""
    return (np.abs(found - expected) <= 1e-9 * (1e-3 + 2 * size) ** ORDERS).all()


@given(SAMPLES, SAMPLES)
def test_cumulants_of_all_sums_of_two_samples_add(x, y):
    sums = (x[:, None] + y[None]).reshape(-1, 2)
    size = np.abs(x).max(axis=0) + np.abs(y).max(axis=0)
    assert same(plain(sums, 8), plain(x, 8) + plain(y, 8), size)


@given(SAMPLES, st.floats(-100, 100), st.floats(-20, 20))
def test_cumulants_follow_shift_and_scale(x, shift, scale):
    expected = scale**ORDERS * plain(x, 8)
    expected[0] += shift
    size = np.abs(scale * x).max(axis=0) + abs(shift)
    assert same(plain(scale * x + shift, 8), expected, size)


@given(SAMPLES, st.integers(1, 27), st.randoms())
def test_cumulants_see_neither_numbering_nor_supercells(x, copies, random):
    rows = [*range(len(x))] * copies
    random.shuffle(rows)
    assert same(plain(x[rows], 8), plain(x, 8), np.abs(x).max(axis=0))


@given(st.lists(SAMPLES, min_size=1, max_size=6), st.integers(1, 8))
def test_cumulants_of_a_structure_are_its_own(samples, order):
    n_atoms = np.array([len(x) for x in samples])
    together = cumulant_features(np.concatenate(samples), n_atoms, order)
    assert together.shape == (len(samples), 2 * order)
    for row, x in zip(together, samples, strict=True):
        alone = cumulant_features(x, np.array([len(x)]), order)[0]
        assert row == pytest.approx(alone, rel=1e-9, abs=1e-9 * (1 + np.abs(x).max()))


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
    again = split_atoms(n_atoms, n_test, by=by, groups=groups, seed=seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(test, again[1])
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
    side = local_folds(torch.from_numpy(groups)[None])[0].numpy()
    assert not {*groups[side == 0]} & {*groups[side == 1]}
    assert abs((side == 0).sum() - (side == 1).sum()) <= np.bincount(groups).max()
    # the largest group leads, of equal ones the smaller label
    assert (side[groups == np.bincount(groups).argmax()] == 0).all()


@given(st.lists(st.sets(st.sampled_from("HCNO"), min_size=1), max_size=15), st.data())
def test_parts_are_disjoint_and_the_rest_has_every_element(elements, data):
    structures = [Atoms("".join(sorted(found))) for found in elements]
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=3))
    seed = data.draw(SEEDS)
    parts = split_structures(structures, sizes, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(structures)))
    assert all(len(part) <= size for part, size in zip(parts, sizes, strict=False))
    assert {s for i in parts[-1] for s in elements[i]} == set().union(*elements)
    if len(set(map(frozenset, elements))) == 1:  # any one of them may stay behind
        left, wanted = len(structures) - 1, []
        for size in sizes:
            wanted.append(min(size, left))
            left -= wanted[-1]
        assert [len(part) for part in parts[:-1]] == wanted
    again = split_structures(structures, sizes, seed)
    assert all(map(np.array_equal, parts, again))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), SEEDS, st.data())
def test_no_trajectory_is_on_both_sides(origins, seed, data):
    frames = [Atoms("H", info={"origin": o, "number": i}) for i, o in enumerate(origins)]
    sizes = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    if len(set(origins)) < 2:
        with pytest.raises(InputError, match="two are needed"):
            split_by_origin(frames, *sizes, seed=seed)
        return
    parts = split_by_origin(frames, *sizes, seed=seed)
    sides = [{a.info["origin"] for a in part} for part in parts]
    assert not sides[0] & sides[1]
    whole = split_by_origin(frames, 99, 99, seed=seed)
    for part, size, everything in zip(parts, sizes, whole, strict=True):
        assert len(part) == min(size, len(everything))
        # no origin gives another frame before all that have one more have given as many
        taken = Counter(a.info["origin"] for a in part)
        there = Counter(a.info["origin"] for a in everything)
        most = max(taken.values())
        assert all(taken[o] >= min(most - 1, there[o]) for o in there)
    assert sum(map(len, whole)) == len(frames)


LAYERS = st.dictionaries(st.sampled_from(["backbone", "last", "interaction-1"]), st.integers(0, 9))


@given(LAYERS, st.integers(0, 30), SEEDS, st.dictionaries(st.integers(0, 99).map(str), st.text()))
def test_a_store_gives_back_what_it_was_given(tmp_path_factory, widths, rows, seed, dropped):
    rng = np.random.default_rng(seed)
    given_arrays = {n: rng.normal(size=(rows, w)).astype(np.float32) for n, w in widths.items()}
    given_arrays["numbers"] = rng.integers(1, 119, rows)
    provenance = {"model": "m", "fingerprint": "f", "structures": "s"}
    folder = tmp_path_factory.mktemp("store")
    FeatureStore(folder, provenance).write(3, given_arrays, dropped)
    store = FeatureStore(folder, provenance)
    assert 3 in store
    assert 0 not in store
    found, why = store.read(3, list(given_arrays))
    assert why == dropped
    for name, array in given_arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


@given(SIZES, st.integers(1, 9), SEEDS, st.sampled_from([np.float32, np.float64]), st.text())
def test_a_file_gives_back_what_was_saved(tmp_path_factory, n_atoms, width, seed, dtype, model):
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.choice(99, len(n_atoms), replace=False))
    total = n_atoms.sum()
    x, numbers = rng.normal(size=(total, width)).astype(dtype), rng.integers(1, 119, total)
    path = tmp_path_factory.mktemp("file") / "f.npz"
    Features(x, n_atoms, numbers, kept, model=model, layer="last").save(path)
    found = Features.load(path)
    assert (found.model, found.layer) == (model, "last")
    assert found.features.dtype == dtype
    for name, array in (("features", x), ("n_atoms", n_atoms), ("numbers", numbers)):
        assert np.array_equal(getattr(found, name), array)
    assert np.array_equal(found.kept, kept)


def tiny_crystals() -> list[Atoms]:
    """Cells of one to three atoms, one of which CHGNet refuses."""
    rng = np.random.default_rng(0)
    cells = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64), bulk("Si"), bulk("Ti"), bulk("Li")]
    cells.append(Atoms("He", cell=[30] * 3, pbc=True))
    cells.append(cells[1].copy())
    for cell in cells:
        cell.positions += rng.normal(0, 0.1, cell.positions.shape)
    return cells


CRYSTALS = tiny_crystals()


@pytest.fixture(scope="module")
def alone(models):
    """Features of every crystal by itself, and those that are refused."""
    found = {}
    for name in ("element", "chgnet-0.3.0"):
        for i, cell in enumerate(CRYSTALS):
            with contextlib.suppress(InputError):
                x = extract_features([cell], models[name], "last", progress=False).features
                found[name, i] = x
    return found


@pytest.mark.parametrize("name", ["element", "chgnet-0.3.0"])
@given(st.permutations(range(len(CRYSTALS))), st.integers(1, 700), st.integers(2, 8))
def test_batches_blocks_and_order_never_matter(name, models, alone, order, batch_size, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "BATCH_SIZE", batch_size)
        patch.setattr(extraction, "BLOCK", block)
        structures = [CRYSTALS[i] for i in order]
        found = extract_features(structures, models[name], "last", progress=False)
    kept = [i for i in order if (name, i) in alone]
    assert [order[i] for i in found.kept] == kept
    assert {order[i] for i in found.dropped} == {*order} - {*kept}
    expected = np.concatenate([alone[name, i] for i in kept])
    # CHGNet computes in single precision, sums of other lengths in another order
    assert found.features == pytest.approx(expected, rel=1e-4, abs=1e-5)
