"""The one comparing call: errors and other measures of all pairs, over splits, with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from ..features.table import Features, common_structures
from ..resources import InputError, unknown_name
from . import METRICS, SIMILARITIES, comparison
from .comparison import NEIGHBOURS_MEAN, Comparison
from .gfre import Tables
from .parallel import count_jobs
from .preprocess import subtract_element_means, varies
from .reconstruction import pointwise_errors
from .regression import Regularization
from .similarity import half_samples
from .splitting import Atoms, Split, draw_splits

MOST_HALVES = 30  # half-samples of a measure that cannot be resampled


@dataclass(frozen=True)
class FitOptions:
    """How the maps behind the errors are fitted, and where.

    Attributes
    ----------
    folds
        ``"group"``: the folds that choose the regularisation keep together what the split does;
        ``"atom"``: those of `skmatter.metrics`. By default they follow the split.
    regularization, n_local_points
        As in `reconstruction_matrix`.
    n_test_local
        Test atoms that the LFRE takes of each split; by default all.
    involving
        Names, or ordered pairs (source, target): only the pairs that a name of these is part of,
        and these pairs, are worked out, all others stay NaN. The measures on the test atoms alone
        know all pairs.
    device
        Where the linear algebra runs, as PyTorch names it; ``"auto"`` is a GPU if there is one.
    n_jobs
        Tasks at a time; by default all cores, or what `joblib.parallel_config` says.
    progress
        Show progress bars.

    Raises
    ------
    InputError
        Unknown folds, or a number out of range.
    """

    folds: str | None = None
    regularization: Regularization | None = None
    n_local_points: int | None = None
    n_test_local: int | None = None
    involving: Sequence[str | tuple[str, str]] | None = None
    device: str = "auto"
    n_jobs: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.folds not in (None, "atom", "group"):
            raise InputError(f"folds by {self.folds}: atom and group are known.")

    def arguments(self, names: Sequence[str], labels: np.ndarray) -> dict[str, Any]:
        """Those of `pointwise_errors` for features of these names, and labels of the atoms."""
        among = {*(self.involving or names)}
        pairs = [pair for pair in product(names, names) if {*pair, pair} & among]
        if not pairs:
            words = ", ".join(map(str, self.involving))
            raise InputError(f"involving {words}: none of these is compared.")
        same = ("regularization", "n_local_points", "device", "n_jobs", "progress")
        same = {name: getattr(self, name) for name in same}
        return {"pairs": pairs, "groups": labels if self.folds == "group" else None, **same}


def compare(
    features: Mapping[str, Features],
    metrics: Sequence[str | Callable] = ("gfre",),
    *,
    split: str | Split = "structure",
    n_splits: int = 1,
    within_element: bool = False,
    baselines: Sequence[str] = (),
    n_bootstrap: int = 200,
    options: FitOptions = FitOptions(),
) -> Comparison:
    """Every measure of all ordered pairs of features, over splits, with intervals.

    Parameters
    ----------
    features
        Features of the same structures by name; those structures are compared that all have.
    metrics
        Fitted on the training atoms and judged on the test atoms: ``"gfre"``, ``"lfre"``,
        ``"gfrd"``, ``"kernel"``. On the test atoms alone: ``"cka"``, ``"cka-rbf"``, ``"overlap"``,
        ``"cknna"``, ``"svcca"``, ``"pwcca"``, ``"procrustes"``, ``"imbalance"``. Or a function of
        your own, ``function(x, y) -> float``, of the features (n_test, width) of source and target
        on the test atoms, centred and of unit total variance there. It goes by its ``__name__``,
        gets intervals like the others, and is drawn as a distance: small is alike.
    split
        ``"structure"``, ``"system"`` or ``"atom"``, which is short for ``Split(by=...)``; or a
        `Split`.
    n_splits
        Number of random splits.
    within_element
        Take each element's mean over the training atoms off all features, and test on atoms of
        elements with at least 10 training atoms. Features that then do not vary are left out.
    baselines
        Names that are no models and stand apart.
    n_bootstrap
        Resamples of the intervals; 0 for none.
    options
        Of the fits.

    Returns
    -------
    Comparison
        Matrices, tables, intervals, a heat map.

    Raises
    ------
    InputError
        Features of different structures, fewer than two that vary, an unknown word, or a split
        that leaves too little on either side.

    Examples
    --------
    >>> from umlip_latents import Features
    >>> rng = np.random.default_rng(0)
    >>> n_atoms, x = np.full(60, 5), rng.normal(size=(300, 3))
    >>> def model(features):
    ...     return Features(features, n_atoms, np.full(300, 14), np.arange(60))
    >>> found = compare({"all": model(x), "one": model(x[:, :1])}, n_splits=3)
    >>> found.matrix("gfre").round(1).loc["all"].tolist()
    [0.0, 0.0]
    >>> found.table.columns.tolist()
    ['metric', 'source', 'target', 'error', 'low', 'high', 'neighbours']
    """
    kinds = metric_names(metrics)
    split = Split(split) if isinstance(split, str) else split
    options = replace(options, folds=options.folds or ("atom" if split.by == "atom" else "group"))
    names = sorted(features, key=lambda name: name in baselines)
    common = dict(zip(names, common_structures([features[n] for n in names]), strict=True))
    labels, splits = draw_splits(next(iter(common.values())), split, n_splits, within_element)
    tables, left_out = preprocess(common, splits, within_element, not {*kinds} <= {*METRICS})
    errors, draws = {}, {}
    for kind, metric in zip(kinds, metrics, strict=True):
        values, medians = measure(metric, tables, splits, labels, n_bootstrap, options)
        for i, name in enumerate((kind, NEIGHBOURS_MEAN)[: values.shape[1]]):
            errors[name], draws[name] = values[:, i], medians[:, i]
    return Comparison(
        names=tuple(tables[0]),
        metrics=kinds,
        folds=options.folds,
        within_element=within_element,
        baselines=tuple(name for name in tables[0] if name in baselines),
        seeds=range(split.seed, split.seed + n_splits),
        structures=next(iter(common.values())).kept,
        dropped={index: why for f in features.values() for index, why in f.dropped.items()},
        left_out=left_out,
        n_train=[len(train) for train, _ in splits],
        n_test=[len(test) for _, test in splits],
        errors=errors,
        draws=draws,
    )


def metric_names(metrics: Sequence[str | Callable]) -> tuple[str, ...]:
    """What they are called; raises `InputError` for one that is unknown, or named twice."""
    names, known = [getattr(m, "__name__", m) for m in metrics], (*METRICS, *SIMILARITIES)
    for metric in metrics:
        if not callable(metric) and metric not in known:
            raise unknown_name(metric, "metric", known)
    if len({*names}) < max(1, len(names)):
        raise InputError(f"metrics {', '.join(names)}: each once, and one at least.")
    return tuple(names)


def preprocess(
    features: Mapping[str, Features], splits: Sequence[Atoms], within_element: bool, on_test: bool
) -> tuple[list[Tables], dict[str, str]]:
    """What is compared in each split, and the names that do not vary in one of them, and why."""
    tables, left_out = [], {}
    for train, test in splits:
        x = {name: f.features for name, f in features.items()}
        if within_element:
            x = {n: subtract_element_means(x[n], f.numbers, train) for n, f in features.items()}
        for name, rows in product(x, (train, test) if on_test else (train,)):
            if not varies(x[name][rows]):
                left_out[name] = f"{name}: features do not vary over the atoms of a split."
        tables.append(x)
    tables = [{name: x[name] for name in x if name not in left_out} for x in tables]
    if len(tables[0]) < 2:
        raise InputError(" ".join(["Two sets of features are needed.", *left_out.values()]))
    return tables, left_out


def measure(
    metric: str | Callable,
    tables: Sequence[Tables],
    splits: Sequence[Atoms],
    labels: np.ndarray,
    n_bootstrap: int,
    options: FitOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """A metric in every split, and its median over the splits with those of a bootstrap.

    (n_splits, n_kinds, n, n) and (1 + n_draws, n_kinds, n, n), where the second kind is the error
    of the neighbours' mean, which the LFRE alone has. The labels say what each atom is drawn with.
    """
    samples, rng = [], np.random.default_rng(0)
    fit = options.arguments(tables[0], labels)
    for x, (train, test) in zip(tables, splits, strict=True):
        if metric not in METRICS:
            some, n_halves = [table[test] for table in x.values()], min(n_bootstrap, MOST_HALVES)
            halves = half_samples(metric, some, labels[test], n_halves, count_jobs(options.n_jobs))
            samples.append(comparison.resample_halves(halves, n_bootstrap, rng)[:, None])
            continue
        if metric == "lfre" and options.n_test_local:  # about as many, evenly taken
            test = test[:: max(1, len(test) // options.n_test_local)]
        found = pointwise_errors(x, train, test, metric, **fit)
        samples.append(comparison.resample_errors(found, [*x], labels[test], n_bootstrap, rng))
    values = np.array([each[0] for each in samples])
    return values, comparison.bootstrap_medians(samples, rng)
