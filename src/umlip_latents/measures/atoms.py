"""The reconstruction error of every single atom, each held out once."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from ..features.table import Features, common_structures
from .preprocess import standardize, subtract_element_means, varies, with_known_element
from .reconstruction import FitOptions, pointwise_errors

MEAN = "mean"  # the source that knows the training atoms' mean alone


def atom_errors(
    features: Mapping[str, Features],
    targets: Sequence[str] | None = None,
    *,
    within_element: bool = False,
    n_folds: int = 4,
) -> pd.DataFrame:
    r"""The global reconstruction error of every atom, by maps that have not seen its structure.

    The structures are dealt into folds. For each fold, one linear map per ordered pair is fitted to
    the others (`global_reconstruction_error`, regularised by structure), and the error of an atom i
    of the fold is :math:`\|y_i - x_i W\|`, in units of the target's spread over the training atoms.
    The root mean square over all atoms is a cross-validated GFRE.

    Parameters
    ----------
    features
        Name to features of the same structures; those are taken that all have.
    targets
        Names whose errors are asked for; by default all.
    within_element
        Take each element's mean over the training atoms off all features first. Features that then
        do not vary are left out, and atoms of an element with fewer than 10 training atoms are NaN.
    n_folds
        Folds of structures.

    Returns
    -------
    pandas.DataFrame
        A row per atom, by its ``structure``; a column per pair (``source``, ``target``). The source
        ``"mean"`` is what the training atoms' mean misses: all there is to miss.

    Raises
    ------
    InputError
        As `reconstruction_matrix`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(80, 2))
    >>> n_atoms, numbers, kept = np.full(40, 2), np.full(80, 14), np.arange(40)
    >>> tables = {"both": x, "one": x[:, :1]}
    >>> errors = atom_errors({n: Features(t, n_atoms, numbers, kept) for n, t in tables.items()})
    >>> errors.shape, bool(errors["both", "one"].max() < 1e-9)
    ((80, 4), True)
    """
    common = dict(zip(features, common_structures(list(features.values())), strict=True))
    one = next(iter(common.values()))
    pairs = [pair for pair in permutations(common, 2) if targets is None or pair[1] in targets]
    asked = FitOptions(involving=pairs)
    deal = np.random.default_rng(0).permutation(len(one.kept)) % n_folds
    fold = np.repeat(deal, one.n_atoms)
    errors = []
    for k in range(n_folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        tables = {name: f.features for name, f in common.items()}
        if within_element:
            tables = {n: subtract_element_means(x, one.numbers, train) for n, x in tables.items()}
            test = with_known_element(one.numbers, train, test)
        tables = {name: x for name, x in tables.items() if varies(x[train])}
        found = pointwise_errors(tables, train, test, "gfre", one.structure, asked)
        found = {pair: norms[0] for pair, norms in found.items()}
        for name in dict.fromkeys(target for _, target in found):
            x = standardize(tables[name], train, name)
            found[MEAN, name] = np.linalg.norm(x[test], axis=1)
        errors.append(pd.DataFrame(found, index=test))
    table = pd.concat(errors).reindex(range(len(fold)))
    table.index = pd.Index(one.structure, name="structure")
    return table.rename_axis(["source", "target"], axis="columns")
