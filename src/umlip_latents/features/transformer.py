"""Structures to one vector each, as a transformer of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.base import BaseEstimator, TransformerMixin

from ..resources import InputError
from .cumulants import cumulant_features
from .extraction import Model, extract_features


class LatentFeatures(TransformerMixin, BaseEstimator):
    """Cumulants of a model's latent features, for pipelines of scikit-learn.

    Nothing is fitted: a structure's vector is its own.

    Parameters
    ----------
    model, layer, store
        As in `extract_features`.
    order
        Number of cumulants, as in `cumulant_features`; 1 is the mean.

    Examples
    --------
    >>> from ase.build import bulk
    >>> LatentFeatures("element", order=2).fit_transform([bulk("Cu"), bulk("Si")]).shape
    (2, 236)
    """

    def __init__(
        self, model: Model, layer: str = "backbone", order: int = 1, store: str | None = None
    ) -> None:
        self.model, self.layer, self.order, self.store = model, layer, order, store

    def fit(self, X: Sequence[Atoms], y: Any = None) -> "LatentFeatures":
        """Do nothing."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Sequence[Atoms]) -> np.ndarray:
        """(n_structures, order * width), float64, of structures.

        Raises
        ------
        InputError
            As `extract_features`; also where the model refuses a structure, as no row may miss.
        """
        how = {"store": self.store, "progress": False}
        found = extract_features(X, self.model, self.layer, **how)
        if found.dropped:
            index, why = next(iter(found.dropped.items()))
            raise InputError(f"structure {index}: {why}.")
        return cumulant_features(found.features, found.n_atoms, self.order)
