"""Structures to one vector each, as a transformer of scikit-learn."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..resources import InputError, unknown_name
from ..structures.checks import check_structure
from ..structures.describe import fingerprint
from .cumulants import cumulant_features, element_features, max_features
from .extraction import Model, extract_features, find_model

POOLINGS = ("mean", "cumulants", "element", "max")
MEMORY_SIZE = 50_000  # structures
memory: dict[tuple[str, ...], np.ndarray] = {}  # atom features by model, layer and structure
memory_lock = threading.Lock()


class LatentFeatures(TransformerMixin, BaseEstimator):
    """Latent features of structures, a vector each, for pipelines of scikit-learn.

    The process remembers what a model gives for the last 50,000 structures, so that the folds of
    a cross-validation run each structure through the network once. A model without a fingerprint
    is run every time.

    Parameters
    ----------
    model, layer, store
        As in `extract_features`. A model object is shared with clones, not copied.
    pooling
        How the atoms become one vector: ``"mean"``, ``"cumulants"``, ``"max"``, or ``"element"``,
        the mean over the atoms of each element that is there in `fit`.
    order
        Number of cumulants, as in `cumulant_features`; 1 is the mean.

    Attributes
    ----------
    elements_
        Atomic numbers of the elements in `fit`.
    width_
        Of the layer.

    Examples
    --------
    >>> from ase.build import bulk
    >>> LatentFeatures("element", order=2).fit_transform([bulk("Cu"), bulk("Si")]).shape
    (2, 236)
    >>> by_element = LatentFeatures("element", pooling="element").fit([bulk("NaCl", "rocksalt", 5)])
    >>> by_element.get_feature_names_out()[[0, -1]].tolist()
    ['Na_0', 'Cl_117']
    """

    def __init__(
        self,
        model: Model,
        layer: str = "backbone",
        pooling: str = "cumulants",
        order: int = 1,
        store: str | None = None,
    ) -> None:
        self.model, self.layer, self.store = model, layer, store
        self.pooling, self.order = pooling, order

    def fit(self, X: Sequence[Atoms], y: Any = None) -> "LatentFeatures":
        """Note the elements of the structures, and the width of the layer.

        Parameters
        ----------
        X
            Structures: a list, an array of objects, or a column of pandas.
        y
            Ignored.

        Raises
        ------
        InputError
            Unknown pooling, or `X` holds something else than structures.
        """
        if self.pooling not in POOLINGS:
            raise unknown_name(self.pooling, "pooling", POOLINGS)
        structures = list_structures(X)
        self.elements_ = np.unique(np.concatenate([atoms.numbers for atoms in structures]))
        self.width_ = self._extract(structures[:1])[0].shape[1]
        return self

    def transform(self, X: Sequence[Atoms]) -> np.ndarray:
        """(n_structures, n_features), float64, of structures.

        Raises
        ------
        InputError
            As `fit` and `extract_features`; also where the model refuses a structure, as no row
            may miss.
        """
        check_is_fitted(self)
        structures = list_structures(X)
        x, n_atoms = np.concatenate(self._extract(structures)), np.array([*map(len, structures)])
        if self.pooling == "max":
            return max_features(x, n_atoms)
        if self.pooling == "element":
            numbers = np.concatenate([atoms.numbers for atoms in structures])
            return element_features(x, n_atoms, numbers, self.elements_)
        return cumulant_features(x, n_atoms, self.order if self.pooling == "cumulants" else 1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns, such as ``mean_0``, ``cumulant2_0``, ``max_0`` or ``Na_0``."""
        check_is_fitted(self)
        parts = {
            "element": [chemical_symbols[z] for z in self.elements_],
            "cumulants": ["mean", *(f"cumulant{k}" for k in range(2, self.order + 1))],
        }.get(self.pooling, [self.pooling])
        return np.array([f"{part}_{i}" for part in parts for i in range(self.width_)], dtype=object)

    def _extract(self, structures: Sequence[Atoms]) -> list[np.ndarray]:
        """(n_atoms, width) features of each structure, remembered or extracted now."""
        model = find_model(self.model)
        known = memory if model.fingerprint else {}
        keys = [(model.fingerprint, self.layer, fingerprint([atoms])) for atoms in structures]
        with memory_lock:
            new = {k: a for k, a in zip(keys, structures, strict=True) if k not in known}
            for key, atoms in new.items():
                check_structure(atoms, f"structure {keys.index(key)}")
            if new:
                how = {"store": self.store, "progress": False}
                found = extract_features([*new.values()], model, self.layer, **how)
                for index, why in found.dropped.items():
                    raise InputError(f"structure {keys.index([*new][index])}: {why}.")
                known.update(zip(new, found.per_structure(), strict=True))
            found = [known[key] for key in keys]
            while len(memory) > MEMORY_SIZE:
                del memory[next(iter(memory))]
        return found

    def __sklearn_clone__(self) -> "LatentFeatures":
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def list_structures(X: Any) -> list[Atoms]:
    """The structures of a list, an array or a column; raises `InputError` if that is not it."""
    found = [*(X.squeeze(axis=1) if getattr(X, "shape", ())[1:] == (1,) else X)]
    if not found or not all(isinstance(atoms, Atoms) for atoms in found):
        kinds = ", ".join(sorted({type(atoms).__name__ for atoms in found})) or "nothing"
        raise InputError(f"X: must hold structures (ase.Atoms), and holds {kinds}.")
    return found
