"""How far the energy of a network can be off, from the last layer alone."""

import numpy as np
import pandas as pd

from ..features.cumulants import cumulant_features
from ..features.table import Features
from ..resources import InputError
from .novelty import check_same_model

RIDGE = 1e-9  # of the covariance, as a share of the mean variance
WITHIN = 0.683  # of all errors lie within one standard deviation, if they are normal


def last_layer_uncertainty(calibration: Features, errors: np.ndarray, new: Features) -> pd.Series:
    r"""Standard deviation of a predicted energy, calibrated on structures with labels.

    The energy of a structure is linear in the sum :math:`f` of its atoms' last layers. With the
    sums of the calibration in the rows of :math:`F` its variance is

    .. math:: \sigma^2 = \alpha^2 f^\top (F^\top F + \zeta^2)^{-1} f

    (Bigi, Chong, Ceriotti and Grasselli, Mach. Learn.: Sci. Technol. 5, 045018, 2024). The factor
    :math:`\alpha` is such that of the calibration, each structure left out of :math:`F` in turn,
    68.3 % have an error below :math:`\sigma`; a few large errors do not move it.

    Parameters
    ----------
    calibration, new
        Last layers by one model.
    errors
        (n_structures,) predicted less true energies of the kept structures, in eV/atom.

    Returns
    -------
    pandas.Series
        The standard deviation in eV/atom of each structure of `new`, by input index.

    Raises
    ------
    InputError
        Features of different models or layers, or errors that are not as many.

    Notes
    -----
    It holds for structures that are drawn like those of the calibration. Of others it may be small
    without reason; `novelty` tells them.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> kept = np.arange(100)
    >>> known, new = (Features(x[i], kept * 0 + 1, kept * 0 + 1, kept) for i in (kept, kept + 100))
    >>> errors = np.random.default_rng(1).normal(size=100)
    >>> last_layer_uncertainty(known, errors, new).shape
    (100,)
    """
    check_same_model(calibration, new)
    errors = np.asarray(errors, dtype=np.float64)
    if errors.shape != calibration.n_atoms.shape or not np.isfinite(errors).all():
        raise InputError(f"{calibration.model}: each kept structure needs one finite error.")
    known, others = (
        cumulant_features(f.features, f.n_atoms, 1) * f.n_atoms[:, None] for f in (calibration, new)
    )
    variances, directions = np.linalg.eigh(known.T @ known)
    along = directions / np.sqrt(variances.clip(0) + RIDGE * variances.mean())
    share, score = (np.square(sums @ along).sum(axis=1) for sums in (known, others))
    share = share / (1 - share)  # left out (Sherman and Morrison)
    alpha = np.quantile(np.abs(errors) * calibration.n_atoms / np.sqrt(share), WITHIN)
    sigma = alpha * np.sqrt(score) / new.n_atoms
    return pd.Series(sigma, pd.Index(new.kept, name="structure"), name="sigma")
