"""How far the energy of a network can be off, from the last layer alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict

from ..features.cumulants import cumulant_features
from ..features.shipped import read_readout
from ..features.table import Features
from ..models.base import Readout
from ..models.catalogue import load_model
from ..resources import InputError
from ..structures.describe import composition, fingerprint
from ..structures.read import load_structures
from .novelty import check_same_model, novelty

RIDGE = 1e-9  # of the covariance, as a share of the mean variance
WITHIN = 0.683  # of all errors lie within one standard deviation, if they are normal
UNUSUAL = 95  # percentile of the calibration, beyond which it does not hold


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
        Features of different models, of another layer or of structures, or errors that are not as
        many.

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
    if calibration.layer not in ("", "last") or not calibration.numbers.any():
        raise InputError(f"{calibration.model}: the last layer of each atom is asked for.")
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


def estimate_uncertainty(
    calibration: Path,
    new: Path,
    errors: Path | None = None,
    structures: Sequence[str] = (),
    model: str | None = None,
    backbones: Sequence[Path] | None = None,
) -> tuple[pd.DataFrame, str]:
    """The `last_layer_uncertainty` of files, and the structures for which it does not hold.

    Parameters
    ----------
    calibration, new
        Files of last layers that ``extract`` wrote.
    errors
        CSV with a ``structure`` and an ``error`` in each row: of the calibration's structures,
        predicted less true energy in eV/atom.
    structures
        Or what the calibration was extracted from, with energies: the errors are `energy_errors`.
    model
        What reads these energies off the last layer, as in `load_model`; only where the readout of
        the calibration's model does not ship. What ``extract`` has trusted is trusted here.
    backbones
        Files of the backbones of both. Of last layers alone molecules may pass for crystals.

    Returns
    -------
    pandas.DataFrame
        For each new structure ``sigma`` in eV/atom; ``percentile``, of its distance in `novelty`;
        and ``outside``: beyond the 95th, or with an element that the calibration lacks.
    str
        What it was calibrated on, and for how many structures it does not hold.

    Raises
    ------
    InputError
        Files that do not belong together, neither or both of errors and structures, or a structure
        without an error or energy.
    """
    if bool(errors) == bool(structures):
        raise InputError("either errors or structures with energies: one of them is needed.")
    known, others = Features.load(calibration), Features.load(new)
    domain = [Features.load(path) for path in backbones or (calibration, new)]
    if [[*f.kept] for f in domain] != [[*known.kept], [*others.kept]]:
        raise InputError(f"{' and '.join(map(str, backbones))}: are of other structures.")
    if errors:
        missed = read_errors(errors, known.kept)
    else:
        own = model and load_model(model).energy_readout()
        readout = Readout(*own) if own else read_readout(known.model)
        missed = energy_errors(known, load_structures(structures), readout)
    table = last_layer_uncertainty(known, missed, others).to_frame()
    table["percentile"] = novelty(*domain)["distance_percentile"]
    unknown = pd.Series(~np.isin(others.numbers, known.numbers), others.structure)
    table["outside"] = unknown.groupby(level=0).any() | (table["percentile"] > UNUSUAL)
    note = f"sigma in eV/atom, calibrated on {len(missed)} structures of {calibration}; it does "
    note += f"not hold for the {table['outside'].sum()} that are outside of their domain"
    return table, note + ("" if backbones else ", which last layers hardly see: give backbones")


def energy_errors(last: Features, structures: Sequence[Atoms], readout: Readout) -> np.ndarray:
    """Errors of the energies that a readout gives, without those of the zeros of each element.

    Two methods need not agree on the zeros of energy: one for each element is fitted to four fifths
    of the structures and taken off the last one, in turn.

    Parameters
    ----------
    last
        Last layers of the structures.
    structures
        All those that the features were extracted from, with energies.
    readout
        Of the same model.

    Returns
    -------
    numpy.ndarray
        (n_structures,) predicted less true energies of the kept structures, in eV/atom.

    Raises
    ------
    InputError
        Other structures, one without an energy, or fewer than five.

    Examples
    --------
    >>> from ase.calculators.singlepoint import SinglePointCalculator
    >>> gold = [Atoms("Au") for _ in range(100)]
    >>> for i, atoms in enumerate(gold):
    ...     atoms.calc = SinglePointCalculator(atoms, energy=-3.0 + 0.5 * (i == 0))
    >>> last = Features(np.ones((100, 2)), np.ones(100, int), np.full(100, 79), np.arange(100))
    >>> readout = Readout(np.ones((2, 1)), np.zeros(1))  # five electronvolts above
    >>> energy_errors(last, gold, readout)[:3].round(2).tolist()
    [-0.5, 0.01, 0.01]
    """
    if last.structures not in ("", fingerprint(structures)):
        raise InputError(f"{last.model}: its features are those of other structures.")
    kept = [structures[i] for i in last.kept]
    energies = [a.calc.results.get("energy", np.nan) / len(a) if a.calc else np.nan for a in kept]
    if np.isnan(energies).any():
        raise InputError(f"structure {last.kept[np.isnan(energies).argmax()]}: has no energy.")
    if len(kept) < 5:
        raise InputError(f"{len(kept)} structures are too few to fit a zero for each element.")
    atoms = pd.Series(readout.energies(last.features.astype(np.float64)))
    off = atoms.groupby(last.structure).mean().to_numpy() - energies
    return off - cross_val_predict(Ridge(0.01, fit_intercept=False), composition(kept), off)


def read_errors(path: Path, kept: np.ndarray) -> np.ndarray:
    """(n_structures,) errors of the kept structures from a CSV: ``structure``, ``error``.

    Raises
    ------
    InputError
        It is no such table, names a structure twice, or lacks the error of one.
    """
    try:
        table = pd.read_csv(path).set_index("structure")["error"].astype(float).reindex(kept)
    except (KeyError, ValueError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path}: needs a structure and an error in each row ({why}).") from None
    missing = ~np.isfinite(table.to_numpy())
    if missing.any():
        raise InputError(f"{path}: structure {kept[missing][0]} has no finite error.")
    return table.to_numpy()
