"""Structure features at work: honest folds, the mathematics of ridge, the physics of labels."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.units import GPa
from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from umlip_latents import Features, extract_features, load_structures
from umlip_latents.comparison import estimate
from umlip_latents.prediction import (
    ALPHAS,
    CANDIDATES,
    PLAIN,
    bootstrap_means,
    group_folds,
    materials,
    pooled_features,
    predict,
    structure_labels,
)
from umlip_latents.resources import InputError
from umlip_latents.structures import composition

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


def test_no_group_is_on_both_sides_and_every_structure_is_tested_once():
    groups = np.random.default_rng(2).integers(0, 11, 60)
    splits = group_folds(groups, 4)
    assert all(not set(groups[train]) & set(groups[test]) for train, test in splits)
    assert sorted(rows_of(splits)) == [*range(60)]
    assert len(group_folds(groups[:3] * 0 + [1, 2, 3], 9)) == 3


def test_what_is_bent_takes_a_curved_kernel():
    x = np.random.default_rng(3).normal(size=(200, 2))
    y = (x**2).sum(axis=1, keepdims=True)
    splits = group_folds(np.arange(200), 4)
    of_mean = np.abs(y - y.mean()).mean()
    straight = predict(x, y, np.arange(200), splits, candidates=[("linear", 1.0)])
    curved = predict(x, y, np.arange(200), splits)
    assert np.abs(straight - y[rows_of(splits)]).mean() > 0.9 * of_mean
    assert np.abs(curved - y[rows_of(splits)]).mean() < 0.1 * of_mean


def test_damping_keeps_many_columns_from_drowning_the_few():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 10))
    y = x @ rng.normal(size=(10, 1)) + 0.5 * rng.normal(size=(120, 1))
    padded = np.hstack([x, rng.normal(size=(120, 70))])
    splits = group_folds(np.arange(120), 4)

    def error(features, **options):
        found = predict(features, y, np.arange(120), splits, **options)
        return np.abs(found - y[rows_of(splits)]).mean()

    alone = error(x, candidates=PLAIN)
    assert error(padded, n_blocks=8, candidates=PLAIN) > 1.5 * alone
    assert error(padded, n_blocks=8, candidates=CANDIDATES) < 1.2 * alone


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
    poisoned = energies.copy()
    poisoned[test] += rng.normal(size=(20, 1))
    again = predict(x, poisoned, np.arange(80), [(train, test)], shares=shares)
    assert np.array_equal(found, again)


def test_units_and_origins_of_features_and_targets_change_nothing(table):
    x, y = table
    splits = group_folds(GROUPS, 3)
    found = predict(x, y, GROUPS, splits)
    assert predict(x * [1, 2, 3, 4, 5, 6] - 7, y, GROUPS, splits) == pytest.approx(found, abs=1e-7)
    assert predict(x, 10 * y - 4, GROUPS, splits) == pytest.approx(10 * found - 4, abs=1e-6)
    constant = np.hstack([x, np.full((N, 1), 1e6)])
    assert predict(constant, y, GROUPS, splits) == pytest.approx(found, abs=1e-7)


def test_features_that_do_not_vary_predict_the_mean(table):
    _, y = table
    train, test = np.arange(50), np.arange(50, N)
    found = predict(np.ones((N, 2)), y, GROUPS, [(train, test)])
    assert found == pytest.approx(np.tile(y[train].mean(axis=0), (len(test), 1)))


def test_a_supercell_changes_nothing(models):
    cells = [a for a in load_structures("embedded") if a.pbc.all() and len(a) <= 3][:24]
    wide = [a.repeat(2) for a in cells[:2]]
    whole = [*cells, *wide]
    features = extract_features(whole, models["chgnet-0.3.0"], progress=False)
    y = structure_labels(whole)[["volume"]].to_numpy()
    train, small, large = np.arange(2, 24), [0, 1], [24, 25]
    for pooling, n_blocks in ((1, 1), (2, 2), (8, 8), ("max", 2)):
        x = pooled_features(features, pooling)
        unit = np.abs(x).max()
        assert np.abs(x[small] - x[large]).max() < 2e-3 * unit
        assert pooling == 8 or np.abs(x[small] - x[large]).max() < 1e-5 * unit
        found = predict(x, y, np.arange(26), [(train, small), (train, large)], n_blocks=n_blocks)
        assert found[:2] == pytest.approx(found[2:], rel=1e-4)
    starts = np.cumsum(features.n_atoms) - features.n_atoms
    sums = np.add.reduceat(features.features, starts)
    assert sums[large] == pytest.approx(8 * sums[small], rel=1e-3, abs=1e-3)  # a sum would change
    assert y[small] == pytest.approx(y[large])
    assert composition(cells[:2]) == pytest.approx(composition(wide))


def test_pooling_is_what_it_says():
    rng = np.random.default_rng(6)
    n_atoms = np.array([3, 1, 5])
    f = Features(rng.normal(size=(9, 4)), n_atoms, np.ones(9, int), np.arange(3))
    parts = np.split(f.features, [3, 4])
    means, tops = (np.array([how(p, axis=0) for p in parts]) for how in (np.mean, np.max))
    spreads = np.array([p.std(axis=0) for p in parts])
    assert pooled_features(f, 1) == pytest.approx(means)
    assert pooled_features(f, 2) == pytest.approx(np.hstack([means, spreads]))
    assert pooled_features(f, "max") == pytest.approx(np.hstack([means, tops]))


def test_labels_are_those_of_physics():
    copper = bulk("Cu", a=3.5, cubic=True)
    copper.positions[0] += 0.1
    copper.calc = EMT()
    copper.get_stress(), copper.get_forces()
    found = structure_labels([copper]).iloc[0]
    ends = []
    for strain in (-1e-4, 1e-4):
        cell = copper.copy()
        cell.set_cell(cell.cell * (1 + strain), scale_atoms=True)
        cell.calc = EMT()
        ends.append((cell.get_volume(), cell.get_potential_energy()))
    (v, e), (w, f) = ends
    assert found["pressure"] == pytest.approx(-(f - e) / (w - v) / GPa, rel=1e-3)
    assert found["pressure"] > 0  # it is squeezed
    assert found["energy"] == pytest.approx(copper.get_potential_energy() / 4)
    assert found["force"] == pytest.approx(np.linalg.norm(copper.get_forces(), axis=1).mean())
    assert found["volume"] == pytest.approx(3.5**3 / 4)
    water = structure_labels([molecule("H2O")]).iloc[0]
    assert water.drop("distance").isna().all()
    assert water["distance"] == pytest.approx(0.968, abs=0.01)


def test_versions_of_one_material_go_together():
    frames = [Atoms("H", info={"mptrj_traj_id": name}) for name in ("mp-1", "mp-2", "mp-1")]
    assert [*materials([*frames, Atoms("H")])] == ["mp-1", "mp-2", "mp-1", "structure 3"]
    owner = materials(load_structures("li3ps4-gfn1"))
    assert len(set(owner)) == 30


def test_intervals_cover_the_truth_if_groups_are_drawn_together():
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(40), 6)
    covered = {"group": 0, "structure": 0}
    for _ in range(200):
        errors = 2 + rng.normal(size=(40, 1))[groups] + 0.3 * rng.normal(size=(240, 1))
        for way, labels in {"group": groups, "structure": np.arange(240)}.items():
            found = estimate(bootstrap_means(errors, labels, n_bootstrap=100)[:, 0])
            covered[way] += found.low < 2 < found.high
    assert covered["group"] > 0.88 * 200
    assert covered["structure"] < 0.75 * 200


def test_means_are_over_structures_and_draws_are_shared():
    errors = np.random.default_rng(8).random((50, 2))
    groups = np.random.default_rng(9).integers(0, 9, 50)
    found = bootstrap_means(np.column_stack([errors, 3 * errors[:, 0]]), groups)
    assert found[0, :2] == pytest.approx(errors.mean(axis=0))
    assert found[:, 2] == pytest.approx(3 * found[:, 0])


def test_bad_input_is_named(table):
    x, y = table
    splits = group_folds(GROUPS, 3)
    with pytest.raises(InputError, match="row for each structure"):
        predict(x[1:], y, GROUPS, splits)
    with pytest.raises(InputError, match="row for each structure"):
        predict(x, y[:, 0], GROUPS, splits)
    with pytest.raises(InputError, match="finite"):
        predict(np.where(x > 8, np.nan, x), y, GROUPS, splits)
    with pytest.raises(InputError, match="6 columns are not 4 blocks"):
        predict(x, y, GROUPS, splits, n_blocks=4)
    with pytest.raises(InputError, match="two groups"):
        predict(x, y, np.zeros(N), splits)
    with pytest.raises(InputError, match="two groups"):
        group_folds(["a", "a"], 2)
    f = Features(x, np.ones(N, int), np.ones(N, int), np.arange(N))
    with pytest.raises(InputError, match="pooling sum"):
        pooled_features(f, "sum")
    with pytest.raises(InputError, match="order 9"):
        pooled_features(f, 9)
