"""Stitching: what a reconstruction error costs in energy.

The map of the GFRE from one network's features to the last layer of another, followed by the
other's own readout, gives energies. They are held against the other network's, as two networks need
not agree on the zero of energy. What a readout adds for each element is not stitched.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from torch import as_tensor

from ..features.table import Features, common_structures
from ..measures.comparison import bootstrap_medians, interval
from ..measures.gfre import fit_maps
from ..measures.parallel import count_jobs, run_tasks
from ..measures.preprocess import standardize
from ..measures.regression import TIKHONOV, two_folds
from ..measures.splitting import Split, draw_splits
from ..models.base import Readout

KINDS = ("error", "shifted", "own", "spread", "error_median", "gfre")


def stitching_errors(
    sources: Mapping[str, Features],
    targets: Mapping[str, Features],
    readouts: Mapping[str, Readout],
    n_splits: int = 5,
    n_bootstrap: int = 200,
) -> pd.DataFrame:
    """Errors in the energy of each target with another's features in place of its last layer.

    Parameters
    ----------
    sources
        Features of any layer by name.
    targets
        Last layers of the same structures by name.
    readouts
        Of the targets, such as `features.shipped.read_readout` gives.
    n_splits
        Random splits by structure, of whose numbers the medians are given.
    n_bootstrap
        Resamples of the structures, for the interval of the error; 0 for none.

    Returns
    -------
    pandas.DataFrame
        A row per pair, in meV/atom over held-out structures. ``error``: mean absolute error of the
        stitched energy, and the ends ``low`` and ``high`` of its 95 % interval. ``shifted``: what
        is left of it after a shift for each element that is fitted to the training structures.
        ``own``: such a difference between the two networks' own energies, NaN for a source that is
        no target. ``spread``: that of the target's energies from nothing but such shifts.
        ``error_median``: of the structures. ``gfre``: of the same splits.

    Raises
    ------
    InputError
        Features of different structures.

    Examples
    --------
    >>> from umlip_latents import load_features
    >>> from umlip_latents.features.shipped import read_readout
    >>> last = load_features("alexandria-random-1k", ["chgnet-0.3.0"], layer="last")
    >>> readouts = {name: read_readout(name) for name in last}
    >>> stitching_errors(last, last, readouts, n_splits=1, n_bootstrap=0)["error"].round().tolist()
    [0.0]
    """
    common, n = common_structures([*sources.values(), *targets.values()]), len(sources)
    one, tables = common[0], [f.features.astype(np.float64) for f in common]
    known = [(readouts[name], x) for name, x in zip(targets, tables[n:], strict=True)]
    energies = means(np.array([readout.energies(x) for readout, x in known]), one.n_atoms)
    shares = means(1.0 * (one.numbers == np.unique(one.numbers)[:, None]), one.n_atoms)
    place = np.repeat(np.arange(len(one.n_atoms)), one.n_atoms)
    labels, splits = draw_splits(one, Split(), n_splits, within_element=False)
    samples, errors, rng = [], [], np.random.default_rng(0)
    for train, test in splits:
        parts = [*(train[half] for half in two_folds(len(train), labels[train])), test]
        x = [standardize(table, train) for table in tables]
        rows = [[as_tensor(table[part]) for part in parts] for table in x]
        tasks = [(of, rows[n:], TIKHONOV, [*map(len, parts[:2])]) for of in rows[:n]]
        stitched, gfres = [], []
        for of, maps in zip(x[:n], run_tasks(fit_maps, tasks, count_jobs()), strict=True):
            for weights, y, (readout, last) in zip(maps, x[n:], known, strict=True):
                found = of @ weights.numpy()  # a last layer that is centred and scaled
                gfres.append(np.linalg.norm(found[test] - y[test]) / len(test) ** 0.5)
                scale, mean = np.sqrt(last[train].var(axis=0).sum()), last[train].mean(axis=0)
                stitched.append(means(readout.energies(scale * found + mean), one.n_atoms))
        missed = np.reshape(stitched, (n, *energies.shape)) - energies
        trained, tested = np.unique(place[train]), np.unique(place[test])
        shifts = np.linalg.pinv(shares[:, trained]) @ shares
        shifted, left = (e - e[..., trained] @ shifts for e in (missed, energies))
        of = dict(zip(targets, left, strict=True))
        own = np.array([left - of.get(name, np.nan) for name in sources])
        wrong = 1000 * np.abs(np.broadcast_arrays(missed, shifted, own, left))[..., tested]
        medians, gfre = np.median(wrong[0], axis=-1), np.reshape(gfres, (n, -1))
        samples.append([*wrong.mean(axis=-1), medians, gfre])
        draws = [slice(None), *rng.integers(len(tested), size=(n_bootstrap, len(tested)))]
        errors.append(np.array([wrong[0][..., draw].mean(axis=-1) for draw in draws]))
    rows = pd.DataFrame(product(sources, targets), columns=["source", "target"])
    values = np.median(samples, axis=0).reshape(len(KINDS), -1)
    low, high = interval(bootstrap_medians(errors, rng)).reshape(2, -1)
    return rows.assign(**dict(zip(KINDS, values, strict=True)), low=low, high=high)


def means(values: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
    """(..., n_structures) means over the atoms of each structure of (..., n_atoms) values."""
    return np.add.reduceat(values, np.cumsum(n_atoms) - n_atoms, axis=-1) / n_atoms
