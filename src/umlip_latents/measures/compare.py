"""The one comparing call: errors and other measures of all pairs, over splits, with intervals."""

import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from ..features.table import Features, common_structures
from ..resources import InputError, check_at_least, unknown_name
from . import DISTANCES, METRICS, SIMILARITIES, comparison
from .comparison import NEIGHBOURS_MEAN, Comparison
from .gfre import Tables
from .parallel import count_jobs
from .preprocess import subtract_element_means, varies, warn_of_few
from .reconstruction import pointwise_errors
from .regression import FitOptions
from .similarity import half_samples
from .splitting import Atoms, Split, draw_splits

MOST_HALVES = 30  # half-samples of a measure that cannot be resampled


def compare(
    features: Mapping[str, Features],
    metrics: Sequence[str | Callable] | str | Callable = ("gfre",),
    *,
    split: str | Split = "structure",
    n_splits: int = 1,
    within_element: bool = False,
    baselines: Sequence[str] = (),
    n_bootstrap: int = 200,
    options: FitOptions | None = None,
) -> Comparison:
    """Every measure of all ordered pairs of features, over splits, with intervals.

    Parameters
    ----------
    features
        Features of the same structures by name; those structures are compared that all have.
    metrics
        Fitted on the training atoms and judged on the test atoms: ``"gfre"``, ``"lfre"``,
        ``"kernel"``. On the test atoms alone: ``"cka"``, ``"cka-rbf"``, ``"overlap"``,
        ``"cknna"``, ``"svcca"``, ``"pwcca"``, ``"procrustes"``, ``"imbalance"``. Or a function of
        your own, ``function(x, y) -> float``, of the features (n_test, width) of source and target
        on the test atoms, centred and of unit total variance there; or ``"FILE.py:function"``,
        whose code is run. It goes by its ``__name__``, gets intervals like the others, and is drawn
        as a distance: small is alike.
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
        Matrices, tables, intervals, a heat map; `warn_of_few` says where numbers mislead.

    Raises
    ------
    InputError
        Features of different structures, fewer than two that vary, an unknown word, a split that
        leaves too little on either side, or a measure of yours that fails.

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
    check_at_least(0, n_bootstrap=n_bootstrap)
    kinds = metrics_by_name([metrics] if isinstance(metrics, str | Callable) else metrics)
    split = Split(split) if isinstance(split, str) else split
    options = options or FitOptions()
    options = replace(options, folds=options.folds or ("atom" if split.by == "atom" else "group"))
    names = sorted(features, key=lambda name: name in baselines)
    common = dict(zip(names, common_structures([features[n] for n in names]), strict=True))
    one = common[names[0]]
    labels, splits = draw_splits(one, split, n_splits, within_element)
    tables, left_out = preprocess(common, splits, within_element, not {*kinds} <= {*METRICS})
    errors, draws = {}, {}
    for kind, metric in kinds.items():
        values, medians = measure(metric, tables, splits, labels, n_bootstrap, options)
        for i, name in enumerate((kind, NEIGHBOURS_MEAN)[: values.shape[1]]):
            errors[name], draws[name] = values[:, i], medians[:, i]
    return Comparison(
        names=tuple(tables[0]),
        metrics=tuple(kinds),
        folds=options.folds,
        within_element=within_element,
        baselines=tuple(name for name in tables[0] if name in baselines),
        structures=one.kept,
        left_out=left_out,
        warnings=warn_of_few(tables[0], one.structure),
        n_train=[len(train) for train, _ in splits],
        n_test=[len(test) for _, test in splits],
        errors=errors,
        draws=draws,
    )


def metrics_by_name(metrics: Sequence[str | Callable]) -> dict[str, str | Callable]:
    """The metrics by what they are called: a function of one's own by its ``__name__``."""
    known, found = (*METRICS, *SIMILARITIES, *DISTANCES), {}
    for metric in metrics:
        path, _, name = str(metric).rpartition(":")
        own = function_of(path, name) if path.endswith(".py") else metric
        name = getattr(own, "__name__", own)
        if callable(own) and name in (*known, NEIGHBOURS_MEAN, own):
            raise InputError(f"{name}: a measure of yours needs a __name__ of its own.")
        if not callable(own) and name not in known:
            raise unknown_name(name, "metric", known)
        found[name] = own
    if len(found) < max(1, len(metrics)):
        raise InputError(f"metrics {', '.join(map(str, metrics))}: each once, and one at least.")
    return found


def function_of(path: str, name: str) -> Callable:
    """The function of a file of Python, whose code is run."""
    try:
        found = runpy.run_path(path).get(name)
    except Exception as error:  # whatever one's own code raises
        raise InputError(f"{path}: cannot be run ({type(error).__name__}: {error}).") from error
    if not hasattr(found, "__name__"):
        raise InputError(f"{path}: has no function {name}.")
    return found


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
    groups = labels if options.folds == "group" else None
    for x, (train, test) in zip(tables, splits, strict=True):
        if metric == "lfre" and options.n_test_local:  # about as many, evenly taken
            test = test[:: max(1, len(test) // options.n_test_local)]
        if metric in METRICS:
            found = pointwise_errors(x, (train, test), metric, groups, options)
            samples.append(comparison.resample_errors(found, [*x], labels[test], n_bootstrap, rng))
        else:
            some, n_halves = [table[test] for table in x.values()], min(n_bootstrap, MOST_HALVES)
            halves = half_samples(metric, some, labels[test], n_halves, count_jobs(options.n_jobs))
            samples.append(comparison.resample_halves(halves, n_bootstrap, rng)[:, None])
    return np.array([each[0] for each in samples]), comparison.bootstrap_medians(samples, rng)
