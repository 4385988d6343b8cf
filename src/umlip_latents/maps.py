"""Maps: two coordinates that keep both the features and a property."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from skmatter.decomposition import PCovR

from .resources import InputError


def pcovr_map(features: np.ndarray, target: np.ndarray, *, mixing: float = 0.5) -> np.ndarray:
    """Principal covariates regression, a projection between PCA and regression.

    scikit-matter's `PCovR` (Helfrecht et al., Mach. Learn.: Sci. Technol. 1, 045021, 2020) on
    standardised columns.

    Parameters
    ----------
    features
        (n_structures, d); constant columns are left out.
    target
        (n_structures,) or (n_structures, n_targets), the property to keep.
    mixing
        1 is PCA, 0 is ridge regression.

    Returns
    -------
    numpy.ndarray
        (n_structures, 2). Signs are fixed by the largest coordinate being positive.
    """
    x = np.asarray(features, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64).reshape(len(x), -1)
    x = x[:, x.std(axis=0) > 1e-10]
    if x.shape[1] < 2:
        raise InputError("A map needs at least two features that vary.")
    x, y = StandardScaler().fit_transform(x), StandardScaler().fit_transform(y)
    regressor = Ridge(alpha=1e-4, fit_intercept=False, solver="svd")
    pcovr = PCovR(mixing=mixing, n_components=2, regressor=regressor, svd_solver="full")
    points = pcovr.fit(x, y).transform(x)
    largest = np.abs(points).argmax(axis=0)
    return points * np.sign(points[largest, [0, 1]])
