"""The one comparing call: errors and other measures of all pairs, over splits, with intervals."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ..features.table import Features, common_structures
from ..resources import InputError, check_at_least, unknown_name
from .comparison import (
    NEIGHBOURS_MEAN,
    Comparison,
    bootstrap_medians,
    resample_halves,
    resampled_means,
)
from .gfre import Tables
from .metrics import METRICS, SIMILARITIES
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
        Names: only the pairs that one of these is part of are worked out, all others stay NaN. The
        measures on the test atoms alone know all pairs.
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
    involving: Sequence[str] | None = None
    device: str = "auto"
    n_jobs: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.folds not in (None, "atom", "group"):
            raise InputError(f"folds by {self.folds}: atom and group are known.")
        check_at_least(1, n_local_points=self.n_local_points, n_test_local=self.n_test_local)


def compare(
    features: Mapping[str, Features],
    metrics: Sequence[str] = ("gfre",),
    *,
    split: str | Split | Any = "structure",
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
        Of `metrics.METRICS`, fitted on the training atoms and judged on the test atoms:
        ``"gfre"``, ``"lfre"``, ``"gfrd"``, ``"kernel"``; of `metrics.SIMILARITIES`, on the test
        atoms alone: ``"cka"``, ``"cka-rbf"``, ``"overlap"``, ``"cknna"``, ``"svcca"``,
        ``"pwcca"``, ``"procrustes"``, ``"imbalance"``.
    split
        ``"structure"``, ``"system"`` or ``"atom"``, which is short for ``Split(by=...)``; a
        `Split`; or a splitter of scikit-learn, such as ``GroupKFold(5)``, which is given the
        structures that all models accept and, as groups, their input indices, and says itself how
        many splits there are.
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
    check_metrics(metrics)
    check_at_least(0, n_bootstrap=n_bootstrap)
    check_at_least(1, n_splits=n_splits)
    split = Split(split) if isinstance(split, str) else split
    by, seed = (split.by, split.seed) if isinstance(split, Split) else ("structure", 0)
    folds = options.folds or ("atom" if by == "atom" else "group")
    found = select_common(features, baselines)
    one = next(iter(found.values()))
    labels, splits = draw_splits(one, split, n_splits, within_element)
    test_too = not {*metrics} <= {*METRICS}
    tables, left_out = preprocess(found, splits, within_element, test_too)
    names = tuple(name for name in found if name not in left_out)
    if len(names) < 2:
        raise InputError(" ".join(["Two sets of features are needed.", *left_out.values()]))
    among = {*names} if options.involving is None else {*names} & {*options.involving}
    if not among:
        raise InputError(f"involving {', '.join(options.involving)}: none of these is compared.")
    pairs = [pair for pair in product(names, names) if {*pair} & among]
    how = ("regularization", "n_local_points", "device", "n_jobs", "progress")
    fit = {name: getattr(options, name) for name in how} | {"pairs": pairs}
    fit["groups"] = labels if folds == "group" else None
    n_halves = min(n_bootstrap, MOST_HALVES)
    samples, rngs = defaultdict(list), defaultdict(lambda: np.random.default_rng(0))
    for (train, test), x in zip(splits, tables, strict=True):
        x = {name: x[name] for name in names}
        for metric in metrics:
            some = test
            if metric == "lfre" and options.n_test_local:  # about as many, evenly taken
                some = test[:: max(1, len(test) // options.n_test_local)]
            for kind, draw in measure(x, (train, some), metric, labels, n_halves, fit):
                values = draw(n_bootstrap, rngs[kind])
                samples[kind].append(np.sqrt(values) if metric in METRICS else values)
    return Comparison(
        names=names,
        metrics=tuple(metrics),
        folds=folds,
        within_element=within_element,
        baselines=tuple(name for name in names if name in baselines),
        seeds=tuple(range(seed, seed + len(splits))),
        structures=one.kept,
        dropped={i: why for f in features.values() for i, why in f.dropped.items()},
        left_out=left_out,
        n_train=[len(train) for train, _ in splits],
        n_test=[len(test) for _, test in splits],
        errors={kind: np.array([each[0] for each in values]) for kind, values in samples.items()},
        draws={kind: bootstrap_medians(values, rngs[kind]) for kind, values in samples.items()},
    )


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise `InputError` for an unknown metric, one that is named twice, or none."""
    for metric in metrics:
        if metric not in (*METRICS, *SIMILARITIES):
            raise unknown_name(metric, "metric", (*METRICS, *SIMILARITIES))
    if len({*metrics}) < max(1, len(metrics)):
        raise InputError(f"metrics {', '.join(metrics)}: each once, and one at least.")


def select_common(
    features: Mapping[str, Features], baselines: Sequence[str]
) -> dict[str, Features]:
    """Features on the structures that all have, baselines last."""
    if len(features) < 2:
        raise InputError("A comparison needs at least two sets of features.")
    names = sorted(features, key=lambda name: name in baselines)
    found = common_structures([features[name] for name in names])
    for name, other in zip(names, found, strict=True):
        if not np.array_equal(other.numbers, found[0].numbers):
            raise InputError(f"{names[0]} and {name}: do not describe the same structures.")
    return dict(zip(names, found, strict=True))


def preprocess(
    features: Mapping[str, Features], splits: Sequence[Atoms], within_element: bool, test_too: bool
) -> tuple[list[Tables], dict[str, str]]:
    """What is compared in each split, and the names that do not vary in one of them, and why."""
    tables, constant = [], {}
    for train, test in splits:
        x = {name: f.features for name, f in features.items()}
        if within_element:
            x = {n: subtract_element_means(x[n], f.numbers, train) for n, f in features.items()}
        for name, table in x.items():
            if test_too and not varies(table[test]):
                constant[name] = f"{name}: features do not vary over the test atoms."
            if not varies(table[train]):
                constant[name] = f"{name}: features do not vary over the training atoms."
        tables.append(x)
    return tables, constant


def measure(
    x: Tables, split: Atoms, metric: str, labels: np.ndarray, n_halves: int, fit: Mapping[str, Any]
) -> Iterator[tuple[str, Callable]]:
    """Of a metric, and of the LFRE's neighbours' mean, what resamples (n, n) values or squares.

    The labels say what each atom is drawn with; `fit` are options of `pointwise_errors`.
    """
    labels = labels[split[1]]
    if metric in SIMILARITIES:
        tables, n_jobs = [table[split[1]] for table in x.values()], count_jobs(fit["n_jobs"])
        halves = half_samples(metric, tables, labels, n_halves, n_jobs)
        yield metric, partial(resample_halves, halves)
        return
    names, group = [*x], np.unique(labels, return_inverse=True)[1]
    found = pointwise_errors(x, *split, metric, **fit)
    for kind, errors in ((metric, found.errors), (NEIGHBOURS_MEAN, found.neighbours or {})):
        sums = np.full((group.max() + 1, len(names), len(names)), np.nan)
        for (s, t), norms in errors.items():
            sums[:, names.index(s), names.index(t)] = np.bincount(group, norms**2)
        if errors:
            yield kind, partial(resampled_means, sums, np.bincount(group))
