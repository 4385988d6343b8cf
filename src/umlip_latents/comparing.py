"""The one comparing call: errors and other measures of all pairs, over splits, with intervals."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from ase.symbols import symbols2numbers

from .comparison import MEAN_OF, Comparison
from .factors import check_spread
from .features import Features, common_structures
from .metrics import MEASURES, METRICS
from .reconstruction import of_known_elements, pointwise_errors, subtract_element_means
from .resources import InputError, at_least, unknown
from .similarity import HALVES, on_halves
from .splits import WAYS, chemical_systems, split_atoms


def compare(
    features: Mapping[str, Features],
    *,
    metrics: Sequence[str] = ("gfre",),
    by: str = "structure",
    groups: Sequence | None = None,
    n_test: int | None = None,
    n_test_local: int | None = None,
    train_share: float = 1.0,
    n_splits: int = 1,
    seed: int = 0,
    within_element: bool = False,
    elements: Sequence[str] | None = None,
    through: Sequence[str] | None = None,
    folds: str | None = None,
    baselines: Sequence[str] = (),
    n_bootstrap: int = 200,
    **options: Any,
) -> Comparison:
    """Every measure of all ordered pairs of features, over splits, with intervals.

    Parameters
    ----------
    features
        Features of the same structures by name; those structures are compared that all have.
    metrics
        Of `metrics.METRICS`, fitted on the training atoms and judged on the test atoms:
        ``"gfre"``, ``"lfre"``, ``"gfrd"``, ``"kernel"``; of `metrics.MEASURES`, on the test
        atoms alone: ``"cka"``, ``"cka-rbf"``, ``"overlap"``, ``"cknna"``, ``"svcca"``,
        ``"pwcca"``, ``"procrustes"``, ``"imbalance"``.
    by
        What is held out: whole structures (``"structure"``), all structures of a set of elements
        (``"system"``), or single atoms (``"atom"``), whose siblings then leak into the training.
    groups
        A label for every input structure: those of one label, such as a trajectory, are held out
        together.
    n_test
        Test atoms of a split; by default a quarter of all, at most 1000.
    n_test_local
        Of these, how many the LFRE takes; by default all.
    train_share
        Of the groups that are not held out, the share that is trained on: for learning curves. A
        smaller share is part of a larger one.
    n_splits, seed
        Number of random splits, and the seed of the first.
    within_element
        Take each element's mean over the training atoms off all features, and test on atoms of
        elements with at least 10 training atoms. Features that then do not vary are left out.
    elements
        Symbols: test on atoms of these elements only.
    through
        Names: only the pairs that one of these is part of are worked out, all others stay NaN. The
        measures on the test atoms alone know all pairs.
    folds
        ``"group"``: the folds that choose the regularisation keep together what the split does;
        ``"atom"``: those of `skmatter.metrics`. By default they follow the split.
    baselines
        Names that stand apart: yardsticks, not models.
    n_bootstrap
        Resamples of the intervals; 0 for none.
    **options
        ``regularization``, ``n_local_points``, ``device`` and ``progress`` of
        `reconstruction_matrix`.

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
    if by not in WAYS or folds not in (None, "atom", "group"):
        raise InputError(f"split by {by}, folds by {folds}: {', '.join(WAYS)}, and atom or group.")
    for metric in metrics:
        if metric not in (*METRICS, *MEASURES):
            raise unknown(metric, "metric", (*METRICS, *MEASURES))
    if len({*metrics}) < max(1, len(metrics)):
        raise InputError(f"metrics {', '.join(metrics)}: each once, and one at least.")
    at_least(0, seed=seed, n_bootstrap=n_bootstrap)
    at_least(1, n_splits=n_splits, n_test=n_test, n_test_local=n_test_local)
    if len(features) < 2:
        raise InputError("A comparison needs at least two sets of features.")
    found = dict(zip(features, common_structures(list(features.values())), strict=True))
    (first, one), *others = found.items()
    for other, f in others:
        if not np.array_equal(f.numbers, one.numbers):
            raise InputError(f"{first} and {other}: do not describe the same structures.")
    owner = owners(one, by, groups)
    seeds = tuple(range(seed, seed + n_splits))
    if not 0 < train_share <= 1:
        raise InputError(f"train_share {train_share}: must lie between 0 and 1.")
    splits = [drawn_split(one, owner, by, n_test, train_share, s) for s in seeds]
    if within_element:
        splits = [(train, of_known_elements(one.numbers, train, test)) for train, test in splits]
    if elements is not None:
        wanted = np.isin(one.numbers, symbols2numbers(list(elements)))
        splits = [(train, test[wanted[test]]) for train, test in splits]
    if min(len(test) for _, test in splits) == 0:
        raise InputError("A split leaves no test atom of an element with enough training atoms.")
    tables = {n: found[n].features for n in sorted(found, key=lambda n: n in baselines)}

    def seen(name: str, train: np.ndarray) -> np.ndarray:
        x = tables[name]
        return subtract_element_means(x, one.numbers, train) if within_element else x

    left_out: dict[str, str] = {}
    measures = [metric for metric in metrics if metric in MEASURES]
    for name, (train, test) in product(tables, splits):
        if why := constant(seen(name, train)[train], name):
            left_out[name] = why
        elif measures and constant(seen(name, train)[test], name):
            left_out[name] = f"{name}: features do not vary over the test atoms."
    names = tuple(name for name in tables if name not in left_out)
    if len(names) < 2:
        raise InputError(" ".join(["Two sets of features are needed.", *left_out.values()]))
    folds = folds or ("atom" if by == "atom" else "group")
    labels = owner if folds == "group" else None
    pairs = {pair for pair in product(names, names) if through is None or {*pair} & {*through}}
    if not pairs:
        raise InputError(f"through {', '.join(through)}: none of these is compared.")
    squares: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    halves: dict[str, list[np.ndarray]] = {metric: [] for metric in measures}
    for train, test in splits:
        chosen = {name: seen(name, train) for name in names}
        tested = [chosen[name][test] for name in names]
        for metric in measures:
            halves[metric].append(on_halves(metric, tested, owner[test], min(n_bootstrap, HALVES)))
        for metric in (metric for metric in metrics if metric in METRICS):
            n_wanted = (n_test_local if metric == "lfre" else None) or len(test)
            part = test[:: max(1, len(test) // n_wanted)]  # about as many, evenly taken
            how = {"groups": labels, "pairs": pairs, **options}
            pointwise = pointwise_errors(chosen, train, part, metric, **how)
            for kind, errors in ((metric, pointwise.errors), (MEAN_OF, pointwise.neighbours)):
                if errors:
                    squares.setdefault(kind, []).append(by_group(errors, names, owner[part]))
    return Comparison(
        names=names,
        metrics=tuple(metrics),
        by=by,
        folds=folds,
        within_element=within_element,
        baselines=tuple(name for name in names if name in baselines),
        seeds=seeds,
        n_bootstrap=n_bootstrap,
        structures=one.kept,
        dropped={i: why for f in features.values() for i, why in f.dropped.items()},
        left_out=left_out,
        n_train=[len(train) for train, _ in splits],
        n_test=[len(test) for _, test in splits],
        squares=squares,
        halves=halves,
    )


def owners(one: Features, by: str, groups: Sequence | None) -> np.ndarray:
    """(n_atoms,) what each atom is held out with: a structure, a system, or a label of `groups`."""
    labels = one.kept
    if groups is not None:
        if len(groups) <= one.kept.max():
            raise InputError(f"{len(groups)} groups do not label all input structures.")
        labels = np.asarray(groups)[one.kept]
    elif by == "system":
        labels = chemical_systems(one.numbers, one.n_atoms)
    return np.repeat(np.unique(labels, return_inverse=True)[1], one.n_atoms)


def drawn_split(
    one: Features, owner: np.ndarray, by: str, n_test: int | None, train_share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test atoms; of the groups that are not held out, a share is trained on."""
    if n_test is None:
        n_test = max(1, min(1000, len(owner) // 4))
    groups = owner[np.cumsum(one.n_atoms) - one.n_atoms]
    way = "atom" if by == "atom" else "structure"
    train, test = split_atoms(one.n_atoms, n_test, by=way, groups=groups, seed=seed)
    left = np.random.default_rng(seed).permutation(np.unique(owner[train]))
    share = left[: max(2, round(train_share * len(left)))]
    return train[np.isin(owner[train], share)], test


def constant(features: np.ndarray, name: str) -> str:
    """A sentence if the features do not vary, nothing if they do."""
    x = np.asarray(features, dtype=np.float64)
    try:
        check_spread(np.sqrt(x.var(axis=0).sum()), np.abs(x.mean(axis=0)).max(), name)
    except InputError as error:
        return str(error)
    return ""


def by_group(
    errors: Mapping[tuple[str, str], np.ndarray], names: Sequence[str], owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n_groups, n, n) sums of the squared errors of each group of test atoms, and their number."""
    group = np.unique(owner, return_inverse=True)[1]
    sizes = np.bincount(group)
    sums = np.full((len(sizes), len(names), len(names)), np.nan)
    for (source, target), missed in errors.items():
        row, column = names.index(source), names.index(target)
        sums[:, row, column] = np.bincount(group, np.square(missed))
    return sums, sizes
