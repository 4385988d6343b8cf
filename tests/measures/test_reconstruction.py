"""Reconstruction errors against scikit-matter and in limits that are known."""

import numpy as np
import pytest
import torch
from skmatter.metrics import global_reconstruction_error as skmatter_gfre
from skmatter.metrics import local_reconstruction_error as skmatter_lfre

from umlip_latents import (
    CUTOFF,
    TIKHONOV,
    FitOptions,
    global_reconstruction_error,
    local_reconstruction_error,
    reconstruction_matrix,
    split_atoms,
)
from umlip_latents.measures.gfre import kernel_features
from umlip_latents.measures.lfre import nearest
from umlip_latents.measures.reconstruction import pointwise_errors
from umlip_latents.measures.regression import two_folds
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


def plain_map(x, y, groups, regularization):
    """Weights of one regularised map by the definition, one strength after the other."""
    one, two = two_folds(len(x), groups)
    folds = ((one, two), (two, one))
    largest = max(np.linalg.norm(x[fold], 2) for fold in (one, two))

    def weights(rows, strength):
        u, s, vh = np.linalg.svd(x[rows], full_matrices=False)
        if regularization.kind == "cutoff":
            f = np.where(s > strength, 1 / s, 0)
        else:
            f = s / (s**2 + strength**2)
        return vh.T @ (f[:, None] * (u.T @ y[rows]))

    losses = []
    for strength in regularization.strengths:
        left = [y[b] - x[b] @ weights(a, strength * largest) for a, b in folds]
        if regularization.kind == "cutoff":
            losses.append(sum(np.sqrt((r**2).mean(axis=0)).mean() for r in left))
        else:
            losses.append(sum((r**2).sum() for r in left))
    return weights(np.arange(len(x)), regularization.strengths[np.argmin(losses)] * largest)


def standard(x, train):
    """Centred and of unit total variance on the training atoms."""
    return (x - x[train].mean(axis=0)) / np.sqrt(x[train].var(axis=0).sum())


def plain_gfre(x, y, train, test, groups, regularization):
    """GFRE by its definition."""
    x, y = standard(x, train), standard(y, train)
    weights = plain_map(x[train], y[train], groups[train], regularization)
    return np.sqrt(np.square(y[test] - x[test] @ weights).sum(axis=1).mean())


def plain_lfre(x, y, train, test, k, groups, regularization):
    """LFRE by its definition, the folds of each neighbourhood by hand."""
    x, y = standard(x, train), standard(y, train)
    squares = []
    for i in test:
        near = train[np.argsort(np.linalg.norm(x[train] - x[i], axis=1))[:k]]
        labels, counts = np.unique(groups[near], return_counts=True)
        loads, side = [0, 0], {}
        for label, count in sorted(zip(labels, counts, strict=True), key=lambda p: (-p[1], p[0])):
            side[label] = int(loads[1] < loads[0])
            loads[side[label]] += count
        halves = np.array([side[g] for g in groups[near]])
        x_mean, y_mean = x[near].mean(axis=0), y[near].mean(axis=0)
        guess = y_mean
        if len(labels) > 1:
            # two groups are folded as they are: one label a half
            weights = plain_map(x[near] - x_mean, y[near] - y_mean, halves, regularization)
            guess = y_mean + (x[i] - x_mean) @ weights
        squares.append(np.square(y[i] - guess).sum())
    return np.sqrt(np.mean(squares))


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


def test_the_error_is_the_share_that_is_not_there():
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(2, 20_000, 2))
    split = np.arange(15_000), np.arange(15_000, 20_000)
    assert global_reconstruction_error(x, noise, *split) == pytest.approx(1, abs=0.02)
    half = np.hstack([x, noise])
    assert global_reconstruction_error(x, half, *split) == pytest.approx(0.5**0.5, abs=0.02)


def test_local_maps_follow_a_bend_that_a_global_map_cannot():
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, 3000)
    x = np.stack([np.cos(k * angle) for k in (1, 2)] + [np.sin(k * angle) for k in (1, 2)], axis=1)
    y = np.stack([np.cos(k * angle) for k in (3, 4)] + [np.sin(k * angle) for k in (3, 4)], axis=1)
    train, test = np.arange(2800), np.arange(2800, 3000)
    assert global_reconstruction_error(x, y, train, test) > 0.95
    assert local_reconstruction_error(x, y, train, test, n_local_points=20) < 0.05


@pytest.mark.parametrize("metric", ["gfre", "lfre"])
def test_four_training_atoms_and_a_test_atom_are_the_least(metric):
    x = np.random.default_rng(0).normal(size=(9, 4))
    pair = {"x": x, "doubled": 2 * x}
    for n_train, n_test in ((4, 1), (4, 5), (8, 1)):
        split = np.arange(n_train), np.arange(n_train, n_train + n_test)
        found = reconstruction_matrix(pair, *split, metric).to_numpy()
        assert np.isfinite(found).all()
        assert found[0, 0] == pytest.approx(found[0, 1])


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_where_it_is_asked_for(progress, capsys):
    pair = {name: TABLES[name] for name in ("smooth", "wide")}
    reconstruction_matrix(pair, TRAIN, TEST, "lfre", progress=progress)
    assert ("local residuals: 100%" in capsys.readouterr().err) == progress


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:-1], "different numbers of atoms"),
        (lambda x: np.where(x == x[0, 0], np.nan, x), "of finite numbers"),
        (lambda x: np.zeros_like(x), "do not vary"),
        (lambda x: x[:, 0], "must be a table"),
    ],
)
def test_bad_features_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        global_reconstruction_error(change(TABLES["smooth"]), TABLES["wide"], TRAIN, TEST)


def test_bad_metrics_neighbours_and_groups_are_refused():
    with pytest.raises(InputError, match="no such metric"):
        reconstruction_matrix(TABLES, TRAIN, TEST, "rmse")
    with pytest.raises(InputError, match="local points"):
        local_reconstruction_error(TABLES["wide"], TABLES["wide"], TRAIN, TEST, n_local_points=1000)
    for train, test in ((TRAIN[:3], TEST), (TRAIN, [])):
        words = f"{len(train)} training and {len(test)} test atoms are too few"
        with pytest.raises(InputError, match=words):
            reconstruction_matrix(TABLES, train, test)
    with pytest.raises(InputError, match="at least two groups"):
        reconstruction_matrix(TABLES, TRAIN, TEST, groups=np.zeros(240))


OWNER = np.repeat(np.arange(40), 6)
WHOLE = split_atoms(np.full(40, 6), 60, by="structure", seed=3)


@pytest.mark.parametrize("regularization", [None, CUTOFF], ids=["tikhonov", "cutoff"])
@pytest.mark.parametrize(("source", "target"), [("smooth", "wide"), ("wide", "stiff")])
def test_folds_by_structure_are_those_of_a_plain_implementation(source, target, regularization):
    x, y = TABLES[source], TABLES[target]
    options = {"groups": OWNER, "regularization": regularization}
    rules = regularization or TIKHONOV
    expected = plain_gfre(x, y, *WHOLE, OWNER, rules)
    assert global_reconstruction_error(x, y, *WHOLE, **options) == pytest.approx(expected, abs=1e-7)
    k = 14
    expected = plain_lfre(x, y, *WHOLE, k, OWNER, rules)
    found = local_reconstruction_error(x, y, *WHOLE, n_local_points=k, **options)
    assert found == pytest.approx(expected, abs=1e-7)


def test_a_neighbourhood_of_one_group_predicts_its_mean():
    """The nearest atoms of each test atom are all of one structure: nothing to choose by."""
    rng = np.random.default_rng(6)
    owner = np.repeat(np.arange(4), 30)
    x = rng.normal(size=(120, 3)) + 100 * owner[:, None]
    y = np.tanh(rng.normal(size=(120, 4)))
    train, test = np.split(np.arange(120).reshape(4, 30), [25], axis=1)
    split, how = (train.ravel(), test.ravel()), FitOptions(n_local_points=8)
    found = pointwise_errors({"x": x, "y": y}, split, "lfre", owner, how)
    for pair in (("x", "x"), ("x", "y")):  # near in y are atoms of all structures
        assert found[pair][0] == pytest.approx(found[pair][1], abs=1e-12)


def test_neighbours_that_tie_are_taken_in_the_order_of_the_atoms():
    """From the bare element: the first atoms of that element, however far rounding puts them."""
    kinds = np.random.default_rng(9).integers(5, size=3000)
    x = np.eye(5)[kinds]
    x = torch.from_numpy((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum()))
    found = nearest(x[2900:], x[:2900], 40).numpy()
    for kind, near in zip(kinds[2900:], found, strict=True):
        assert near.tolist() == np.flatnonzero(kinds[:2900] == kind)[:40].tolist()


def test_a_kernel_rebuilds_what_is_bent():
    x = np.random.default_rng(0).normal(size=(900, 2))
    pairs = {"x": x, "bent": np.hstack([x**2, np.sin(2 * x)])}
    parts = np.arange(600), np.arange(600, 900)
    straight, bent = (reconstruction_matrix(pairs, *parts, m) for m in ("gfre", "kernel"))
    assert straight.loc["x", "bent"] > 0.8
    assert bent.loc["x", "bent"] < 0.2
    assert bent.loc["x", "x"] < 1e-3


def test_with_all_training_atoms_as_landmarks_the_kernel_is_exact():
    x = np.random.default_rng(2).normal(size=(120, 3))
    train = np.arange(80)
    phi = kernel_features(x, train)
    z = (x - x[train].mean(axis=0)) / np.sqrt(x[train].var(axis=0).sum())
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    width = np.median(distances[:80, :80][distances[:80, :80] > 0])
    kernel = z @ z.T + np.exp(-(distances**2) / (2 * width**2))
    assert (phi @ phi.T)[:, train] == pytest.approx(kernel[:, train], abs=1e-6)
