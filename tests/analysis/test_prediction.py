"""Structure features at work: honest folds, the mathematics of ridge regression."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from umlip_latents.analysis.prediction import (
    ALPHAS,
    group_folds,
    predict,
)
from umlip_latents.resources import InputError

N = 72
GROUPS = np.repeat(np.arange(36), 2)


@pytest.fixture(scope="module")
def table():
    """Features, and two targets: a noisy linear one and a bent one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6)) @ np.diag([1, 5, 0.1, 1, 2, 1]) + 3
    linear = x @ [1, 0.2, 8, 0, 0, 1] + 0.3 * rng.normal(size=N)
    return x, np.column_stack([linear, np.sin(x[:, 0]) * x[:, 3]])


def rows_of(splits):
    return np.concatenate([test for _, test in splits])


@pytest.mark.parametrize(("kernel", "damping"), [("linear", 1.0), ("linear", 0.3), (0.2, 1.0)])
def test_it_is_nested_cross_validation_as_scikit_learn_does_it(table, kernel, damping):
    x, y = table
    weights = damping ** np.repeat([0, 1, 2], 2)
    scaled = FunctionTransformer(lambda t: t * weights / np.linalg.norm(weights))
    alpha = "ridge__alpha"
    model = make_pipeline(StandardScaler(), scaled, Ridge())
    if kernel != "linear":
        alpha = "regressor__kernelridge__alpha"
        machine = make_pipeline(StandardScaler(), scaled, KernelRidge(kernel="rbf", gamma=kernel))
        model = TransformedTargetRegressor(machine, transformer=StandardScaler(with_std=False))
    splits = group_folds(GROUPS, 3)
    found = predict(x, y, GROUPS, splits, n_blocks=3, candidates=[(kernel, damping)])
    for column in range(2):
        expected = []
        for train, test in splits:
            inner = GroupKFold(3, shuffle=True, random_state=0)
            search = GridSearchCV(
                model, {alpha: ALPHAS}, cv=inner, scoring="neg_mean_absolute_error"
            )
            search.fit(x[train], y[train, column], groups=GROUPS[train])
            expected.append(search.predict(x[test]))
        # an outer part has 24 groups, an inner one 8: the mean over folds is that over structures
        assert found[:, column] == pytest.approx(np.concatenate(expected), abs=1e-6)


def test_a_number_per_group_cannot_be_predicted_though_the_features_name_the_group():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 4)
    x = rng.normal(size=(30, 40))[groups] + 1e-3 * rng.normal(size=(120, 40))
    poison = rng.normal(size=(30, 1))[groups]
    honest, leaky = group_folds(groups, 4), group_folds(np.arange(120), 4)
    of_mean = np.abs(poison - poison.mean()).mean()
    missed = np.abs(predict(x, poison, groups, honest) - poison[rows_of(honest)]).mean()
    leaked = np.abs(predict(x, poison, np.arange(120), leaky) - poison[rows_of(leaky)]).mean()
    assert missed > 0.9 * of_mean
    assert leaked < 0.1 * of_mean


def test_the_composition_fit_sees_the_training_structures_alone():
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(4), size=80)
    x = rng.normal(size=(80, 3))
    energies = shares @ [[-3.0], [-5.0], [2.0], [0.5]]
    train, test = np.arange(60), np.arange(60, 80)
    found = predict(x, energies, np.arange(80), [(train, test)], shares=shares)
    assert found == pytest.approx(energies[60:], abs=1e-3)
    energies += x[:, :1]
    found = predict(x, energies, np.arange(80), [(train, test)], shares=shares)
    assert np.abs(found - energies[60:]).mean() < 0.3 * np.abs(x[60:, 0]).mean()
    energies[test] += rng.normal(size=(20, 1))
    again = predict(x, energies, np.arange(80), [(train, test)], shares=shares)
    assert np.array_equal(found, again)


def test_bad_input_is_named(table):
    x, y = table
    splits = group_folds(GROUPS, 3)
    with pytest.raises(InputError, match="6 columns are not 4 blocks"):
        predict(x, y, GROUPS, splits, n_blocks=4)
    with pytest.raises(InputError, match="two groups"):
        predict(x, y, np.zeros(N), splits)
