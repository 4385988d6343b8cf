"""Structures in pipelines of scikit-learn, each through the network once."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from umlip_latents import InputError, LatentFeatures, cumulant_features
from umlip_latents.features import transformer
from umlip_latents.models.base import Unsupported

from .positions import Positions, clusters

STRUCTURES = [
    *clusters(38),
    Atoms("OH", [(0, 0, 0), (1, 2, 3)]),
    Atoms("O2", [(0, 0, 0), (0, 1, 1)]),
]
N_ATOMS = np.array([len(atoms) for atoms in STRUCTURES])
ROWS = np.concatenate([atoms.positions for atoms in STRUCTURES]).astype(np.float32)


class Counting(Positions):
    """Counts the structures that it is given; refuses lithium."""

    def __init__(self, fingerprint):
        super().__init__()
        self.fingerprint, self.n_structures = fingerprint, 0

    def prepare(self, atoms):
        if 3 in atoms.numbers:
            raise Unsupported("no lithium")
        self.n_structures += 1
        return atoms


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(transformer, "memory", {})
    return Counting("c" * 64)


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_folds_and_grids_run_each_structure_through_the_network_once(model, n_jobs):
    """Also where folds ask at the same time."""
    pipeline = make_pipeline(LatentFeatures(model), Ridge(1e-6))
    y = cumulant_features(ROWS, N_ATOMS, 1).sum(axis=1)
    with joblib.parallel_config(backend="threading", n_jobs=n_jobs):
        assert cross_val_score(pipeline, STRUCTURES, y).min() > 0.99
        grid = {"latentfeatures__pooling": ["max", "cumulants"], "latentfeatures__order": [1, 2]}
        found = GridSearchCV(pipeline, grid).fit(STRUCTURES, y)
    assert model.n_structures == len(STRUCTURES)
    assert found.best_params_["latentfeatures__pooling"] == "cumulants"


def test_only_what_has_a_fingerprint_is_remembered_and_only_so_much(model, monkeypatch):
    monkeypatch.setattr(transformer, "MEMORY_SIZE", 30)
    mean = LatentFeatures(model).fit(STRUCTURES)
    for first, n_structures in ((0, 40), (10, 40), (0, 50)):  # the last thirty are there
        found = mean.transform(STRUCTURES[first:])
        assert np.array_equal(found, cumulant_features(ROWS, N_ATOMS, 1)[first:])
        assert model.n_structures == n_structures
    model.fingerprint = ""
    mean.transform(STRUCTURES)
    assert (model.n_structures, len(transformer.memory)) == (90, 30)


def test_every_pooling_and_its_names(model):
    def pooled(pooling, order=1):
        made = LatentFeatures(model, pooling=pooling, order=order).set_output(transform="pandas")
        return made.fit_transform(STRUCTURES)

    parts = np.split(ROWS.astype(float), np.cumsum(N_ATOMS)[:-1])
    assert pooled("max").loc[:, "max_0":"max_2"].to_numpy().tolist() == [
        [*part.max(axis=0)] for part in parts
    ]
    third = pooled("cumulants", 3)
    assert np.array_equal(third, cumulant_features(ROWS, N_ATOMS, 3))
    assert [third.columns[i] for i in (0, 3, 8)] == ["mean_0", "cumulant2_0", "cumulant3_2"]
    assert np.array_equal(pooled("mean", 3), third.loc[:, :"mean_2"])
    element = pooled("element")
    assert [*element] == [f"{symbol}_{i}" for symbol in "HO" for i in range(3)]
    assert element.iloc[-2:].to_numpy().tolist() == [[1, 2, 3, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]
    assert np.allclose(element.iloc[0], [*parts[0].mean(axis=0), 0, 0, 0])
    hydrogen = LatentFeatures(model, pooling="element").fit(STRUCTURES[:5])
    assert hydrogen.transform(STRUCTURES[-1:]).tolist() == [[0, 0, 0]]  # oxygen alone


def test_a_list_an_array_a_series_and_a_column_are_the_same(model):
    array = np.empty(len(STRUCTURES), dtype=object)
    array[:] = STRUCTURES
    table, mean = pd.DataFrame({"atoms": array}), LatentFeatures(model)
    for some in (STRUCTURES, array, table["atoms"], table, array[:, None]):
        assert np.array_equal(mean.fit_transform(some), cumulant_features(ROWS, N_ATOMS, 1))
    for column in ("atoms", ["atoms"]):
        assert ColumnTransformer([("x", mean, column)]).fit_transform(table).shape == (40, 3)


def test_what_is_not_structures_is_refused_in_a_sentence(model):
    lithium, close = Atoms("Li"), Atoms("H2")
    for X, how, why in (
        (STRUCTURES[0], {}, "X: must hold structures .*, and holds Atom"),
        (np.zeros((3, 2)), {}, "and holds ndarray"),
        ([], {}, "and holds nothing"),
        (STRUCTURES, {"pooling": "sum"}, "sum: no such pooling"),
        (STRUCTURES, {"pooling": "cumulants", "order": 9}, "order 9: cumulants go from 1 to 8"),
        ([STRUCTURES[0], Atoms("H"), lithium], {}, "structure 2: no lithium"),
        ([*STRUCTURES, close], {}, "structure 40: atoms 0 and 1 are 0 angstrom apart"),
    ):
        with pytest.raises(InputError, match=why):
            LatentFeatures(model, **how).fit_transform(X)


def test_it_is_an_estimator_that_can_be_cloned_and_pickled():
    made = LatentFeatures("element", pooling="element", order=2)
    for name in ("cloneable", "tags_renamed", "repr"):
        getattr(estimator_checks, f"check_estimator_{name}")("LatentFeatures", made)
    for name in ("no_attributes_set_in_init", "valid_tag_types", "mixin_order", "set_params",
                 "get_params_invariance", "do_not_raise_errors_in_init_or_set_params"):  # fmt: skip
        getattr(estimator_checks, f"check_{name}")("LatentFeatures", made)
    estimator_checks.check_estimator(made)  # leaves out what wants numbers
    assert clone(LatentFeatures(model := Positions())).model is model  # is not copied
    pipeline = make_pipeline(made, Ridge()).fit(STRUCTURES, N_ATOMS)
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict(STRUCTURES), pipeline.predict(STRUCTURES))
