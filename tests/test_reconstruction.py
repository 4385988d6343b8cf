"""Reconstruction errors against scikit-matter and in limits that are known."""

import numpy as np
import pytest
import torch
from skmatter.linear_model import Ridge2FoldCV
from skmatter.metrics import global_reconstruction_error as skmatter_gfre
from skmatter.metrics import local_reconstruction_error as skmatter_lfre
from skmatter.metrics import (
    pointwise_global_reconstruction_error as skmatter_pointwise,
)

from umlip_latents import (
    Regression,
    global_reconstruction_error,
    local_reconstruction_error,
    reconstruction_matrix,
    split_atoms,
)
from umlip_latents.reconstruction import (
    bootstrap_interval,
    of_seen_elements,
    pointwise_errors,
    root_mean_square,
    subtract_element_means,
)
from umlip_latents.resources import InputError


def tables(n: int = 240) -> dict[str, np.ndarray]:
    """Feature tables of different width, decay and conditioning that share hidden causes."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, 6))
    decay = np.geomspace(1, 1e-9, 20)
    return {
        "smooth": np.tanh(hidden @ rng.normal(size=(6, 10))) + 3,
        "stiff": hidden @ rng.normal(size=(6, 20)) * decay + 1e-7 * rng.normal(size=(n, 20)),
        "wide": np.sin(hidden @ rng.normal(size=(6, 33))),
        "onehot": np.eye(5)[rng.integers(5, size=n)],
    }


TABLES = tables()
TRAIN, TEST = split_atoms(np.full(40, 6), 60, seed=2)


@pytest.mark.parametrize("target", TABLES)
@pytest.mark.parametrize("source", TABLES)
def test_gfre_is_that_of_scikit_matter(source, target):
    x, y = TABLES[source], TABLES[target]
    expected = skmatter_gfre(x, y, train_idx=TRAIN, test_idx=TEST)
    assert global_reconstruction_error(x, y, TRAIN, TEST) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("source", "target"),
    [("smooth", "wide"), ("wide", "smooth"), ("stiff", "smooth"), ("smooth", "stiff")],
)
def test_lfre_is_that_of_scikit_matter(source, target):
    x, y = TABLES[source], TABLES[target]
    k = min(x.shape[1], y.shape[1])
    expected = skmatter_lfre(x, y, k, train_idx=TRAIN, test_idx=TEST)
    assert local_reconstruction_error(x, y, TRAIN, TEST) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("k", [5, 12, 31])
def test_lfre_with_own_number_of_neighbours(k):
    x, y = TABLES["wide"], TABLES["smooth"]
    expected = skmatter_lfre(x, y, k, train_idx=TRAIN, test_idx=TEST)
    found = local_reconstruction_error(x, y, TRAIN, TEST, n_local_points=k)
    assert found == pytest.approx(expected, abs=1e-8)


def test_pointwise_errors_are_those_of_scikit_matter():
    pair = {"a": TABLES["smooth"], "b": TABLES["wide"]}
    found = pointwise_errors(pair, TRAIN, TEST, "gfre")["a", "b"]
    expected = skmatter_pointwise(pair["a"], pair["b"], train_idx=TRAIN, test_idx=TEST)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["gfre", "lfre"])
def test_a_matrix_holds_the_errors_of_its_pairs(metric):
    chosen = {k: TABLES[k] for k in ("smooth", "stiff", "wide")}
    matrix = reconstruction_matrix(chosen, TRAIN, TEST, metric)
    alone = {"gfre": global_reconstruction_error, "lfre": local_reconstruction_error}[metric]
    for source in chosen:
        for target in chosen:
            expected = alone(chosen[source], chosen[target], TRAIN, TEST)
            assert matrix.loc[source, target] == pytest.approx(expected, abs=1e-10)


def test_a_linear_image_is_rebuilt_and_more_information_is_not():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 8))
    image = x @ rng.normal(size=(8, 5)) - 4
    train, test = np.arange(200), np.arange(200, 300)
    assert global_reconstruction_error(x, image, train, test) < 1e-12
    assert local_reconstruction_error(x, image, train, test, n_local_points=60) < 1e-8
    assert global_reconstruction_error(image, x, train, test) > 0.3


def test_unrelated_features_have_error_one():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20_000, 3)), rng.normal(size=(20_000, 4))
    train, test = np.arange(15_000), np.arange(15_000, 20_000)
    assert global_reconstruction_error(x, y, train, test) == pytest.approx(1, abs=0.02)


def test_half_of_the_target_is_known():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20_000, 2))
    y = np.concatenate([x, rng.normal(size=(20_000, 2))], axis=1)
    train, test = np.arange(15_000), np.arange(15_000, 20_000)
    assert global_reconstruction_error(x, y, train, test) == pytest.approx(0.5**0.5, abs=0.02)


def test_errors_ignore_shift_scale_and_rotation_of_either_side():
    rng = np.random.default_rng(4)
    x, y = TABLES["smooth"], TABLES["wide"]
    turn = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    base = global_reconstruction_error(x, y, TRAIN, TEST)
    assert global_reconstruction_error(7 * x @ turn + 2, y, TRAIN, TEST) == pytest.approx(base)
    assert global_reconstruction_error(x, 0.1 * y - 5, TRAIN, TEST) == pytest.approx(base)


def test_local_maps_follow_a_bend_that_a_global_map_cannot():
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, 3000)
    x = np.stack([np.cos(k * angle) for k in (1, 2)] + [np.sin(k * angle) for k in (1, 2)], axis=1)
    y = np.stack([np.cos(k * angle) for k in (3, 4)] + [np.sin(k * angle) for k in (3, 4)], axis=1)
    train, test = np.arange(2800), np.arange(2800, 3000)
    assert global_reconstruction_error(x, y, train, test) > 0.95
    assert local_reconstruction_error(x, y, train, test, n_local_points=20) < 0.05


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


def test_within_element_features_have_no_element_mean():
    numbers = np.array([1, 1, 1, 8, 8, 8, 6])
    x = np.random.default_rng(6).normal(size=(7, 3)) + numbers[:, None]
    train = np.array([0, 1, 3, 4])
    found = subtract_element_means(x, numbers, train)
    for z in (1, 8):
        assert found[train][numbers[train] == z].mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert (found[6] == 0).all()
    assert list(of_seen_elements(numbers, train, np.array([2, 5, 6]), at_least=2)) == [2, 5]


def test_bootstrap_interval_covers_the_error_and_shrinks_with_groups():
    rng = np.random.default_rng(7)
    widths = []
    for n_groups in (20, 500):
        groups = np.repeat(np.arange(n_groups), 5)
        errors = np.abs(rng.normal(1, 0.2, len(groups)))
        low, high = bootstrap_interval(errors, groups)
        assert low < root_mean_square(errors) < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:-1], "different numbers of atoms"),
        (lambda x: np.where(x == x[0, 0], np.nan, x), "not a finite number"),
        (lambda x: np.zeros_like(x), "do not vary"),
        (lambda x: x[:, 0], "must be a table"),
    ],
)
def test_bad_features_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        global_reconstruction_error(change(TABLES["smooth"]), TABLES["wide"], TRAIN, TEST)


def test_bad_splits_metrics_and_neighbours_are_refused():
    with pytest.raises(InputError, match="no such metric"):
        reconstruction_matrix(TABLES, TRAIN, TEST, "rmse")
    with pytest.raises(InputError, match="n_test 100"):
        split_atoms(np.array([50, 50]), 100)
    with pytest.raises(InputError, match="by atom or by structure"):
        split_atoms(np.array([50, 50]), 10, by="element")
    with pytest.raises(InputError, match="leaves no structure"):
        split_atoms(np.array([50]), 10, by="structure")
    with pytest.raises(InputError, match="local points"):
        local_reconstruction_error(TABLES["wide"], TABLES["wide"], TRAIN, TEST, n_local_points=1000)
    with pytest.raises(InputError, match="too few"):
        reconstruction_matrix(TABLES, TRAIN[:2], TEST)


@pytest.mark.parametrize("regularization", ["cutoff", "tikhonov"])
@pytest.mark.parametrize("n_cutoffs", [1, 7, 20])
def test_other_regularizations_are_those_of_scikit_matter(regularization, n_cutoffs):
    settings = Regression(n_cutoffs, regularization)
    estimator = Ridge2FoldCV(
        alphas=np.geomspace(1e-9, 0.9, n_cutoffs),
        alpha_type="relative",
        regularization_method=regularization,
        random_state=0x5F3759DF,
        scoring="neg_root_mean_squared_error",
    )
    split = {"train_idx": TRAIN, "test_idx": TEST}
    for source, target in (("smooth", "wide"), ("wide", "stiff"), ("stiff", "smooth")):
        x, y = TABLES[source], TABLES[target]
        expected = skmatter_gfre(x, y, **split, estimator=estimator)
        found = global_reconstruction_error(x, y, TRAIN, TEST, regression=settings)
        assert found == pytest.approx(expected, abs=1e-9)
        expected = skmatter_lfre(x, y, 12, **split, estimator=estimator)
        found = local_reconstruction_error(
            x, y, TRAIN, TEST, n_local_points=12, regression=settings
        )
        assert found == pytest.approx(expected, abs=1e-8)


def test_settings_reach_the_matrix():
    chosen = {k: TABLES[k] for k in ("wide", "stiff")}
    coarse = Regression(2, "tikhonov")
    for metric, alone in (
        ("gfre", global_reconstruction_error),
        ("lfre", local_reconstruction_error),
    ):
        matrix = reconstruction_matrix(chosen, TRAIN, TEST, metric, regression=coarse)
        expected = alone(*chosen.values(), TRAIN, TEST, regression=coarse)
        assert matrix.loc["wide", "stiff"] == pytest.approx(expected, abs=1e-10)
        assert expected != pytest.approx(alone(*chosen.values(), TRAIN, TEST), abs=1e-6)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = local_reconstruction_error(TABLES["wide"], TABLES["smooth"], TRAIN, TEST)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        again = local_reconstruction_error(TABLES["wide"], TABLES["smooth"], TRAIN, TEST)
        assert found == pytest.approx(again, abs=1e-12)
    finally:
        torch.set_num_threads(before)


def test_unknown_regularizations_are_refused():
    with pytest.raises(InputError, match="regularized by cutoff or tikhonov"):
        Regression(regularization="lasso")
    with pytest.raises(InputError, match="at least one"):
        Regression(n_cutoffs=0)
