"""The one comparing call: reconstruction errors of all pairs over splits, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from ase.symbols import symbols2numbers
from matplotlib.figure import Figure

from .extraction import Features, common_structures
from .factors import check_spread
from .figures import error_heat_maps
from .reconstruction import (
    METRICS,
    of_known_elements,
    pointwise_errors,
    subtract_element_means,
)
from .regression import Regularization
from .resources import InputError
from .splits import WAYS, chemical_systems, split_atoms

MEAN_OF = "neighbours"  # the LFRE's own baseline, kept beside it


class Estimate(NamedTuple):
    """A number and its 95 % interval; as text ``0.58 [0.55, 0.61]``."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{interval}"


@dataclass
class Comparison:
    """Reconstruction errors of all ordered pairs; from `compare`.

    Every number is a median over the splits. The 95 % intervals are those of a bootstrap that
    draws splits anew and, in each, the test structures (by system, the chemical systems), so that
    they cover both.

    Attributes
    ----------
    names
        Of the compared features, in the order of the matrices.
    metrics
        ``"gfre"``, ``"lfre"`` or both.
    by, folds, within_element, baselines, seeds, n_bootstrap
        As `compare` was told.
    structures
        (n_structures,) input indices of the structures that all models accept.
    dropped
        Input index of the others, and why a model refused them.
    left_out
        Name, and why these features could not be compared.
    n_train, n_test
        Atoms of each split.
    squares, counts
        By metric, for each split: (n_groups, n, n) sums of squared errors over the test atoms of a
        group, and (n_groups,) their number.
    """

    names: tuple[str, ...]
    metrics: tuple[str, ...]
    by: str
    folds: str
    within_element: bool
    baselines: tuple[str, ...]
    seeds: tuple[int, ...]
    n_bootstrap: int
    structures: np.ndarray
    dropped: dict[int, str]
    left_out: dict[str, str]
    n_train: list[int]
    n_test: list[int]
    squares: dict[str, list[np.ndarray]]
    counts: dict[str, list[np.ndarray]]

    @property
    def models(self) -> list[str]:
        """The names that are not baselines."""
        return [name for name in self.names if name not in self.baselines]

    @cached_property
    def by_split(self) -> pd.DataFrame:
        """A row per metric, split and ordered pair: ``metric``, ``split`` (its seed), ``source``,
        ``target``, ``error``, and ``neighbours``, the error of the mean of the LFRE's neighbours.
        """
        tables = []
        for metric in self.metrics:
            columns = {"error": self._errors(metric)}
            if metric == "lfre":
                columns[MEAN_OF] = self._errors(MEAN_OF)
            for i, seed in enumerate(self.seeds):
                own = {key: values[i] for key, values in columns.items()}
                tables.append(self._long(own).assign(metric=metric, split=seed))
        order = ["metric", "split", "source", "target", "error", MEAN_OF]
        return pd.concat(tables, ignore_index=True).reindex(columns=order)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per metric and ordered pair: ``metric``, ``source``, ``target``, ``error``, its
        interval ``low`` and ``high``, and ``neighbours`` as in `by_split`.
        """
        tables = []
        for metric in self.metrics:
            low, high = np.quantile(self._resampled(metric), [0.025, 0.975], axis=0)
            columns = {"error": self.matrix(metric).to_numpy(), "low": low, "high": high}
            if metric == "lfre":
                columns[MEAN_OF] = self.matrix(MEAN_OF).to_numpy()
            tables.append(self._long(columns).assign(metric=metric))
        order = ["metric", "source", "target", "error", "low", "high", MEAN_OF]
        return pd.concat(tables, ignore_index=True).reindex(columns=order)

    def matrix(self, metric: str = "gfre") -> pd.DataFrame:
        """Medians over the splits: row = source, column = target.

        ``"neighbours"`` gives the errors of the mean of the LFRE's neighbours.
        """
        index = pd.Index(self.names, name="source")
        return pd.DataFrame(np.median(self._errors(metric), axis=0), index, self.names)

    def mean(
        self, sources: Sequence[str], targets: Sequence[str], metric: str = "gfre"
    ) -> Estimate:
        """Mean error over the ordered pairs of different names, with its interval.

        Names that are not part of the comparison are passed over; without any pair it is NaN.
        """
        place = {name: i for i, name in enumerate(self.names)}
        pairs = [(s, t) for s in sources for t in targets if s != t and {s, t} <= set(place)]
        if not pairs:
            return Estimate(np.nan)
        rows, columns = np.array([[place[s], place[t]] for s, t in pairs]).T
        drawn = self._resampled(metric)[:, rows, columns].mean(axis=1)
        value = self.matrix(metric).to_numpy()[rows, columns].mean()
        return Estimate(float(value), *map(float, np.quantile(drawn, [0.025, 0.975])))

    def heat_map(self) -> Figure:
        """The matrices, baselines set apart; LFREs that their neighbours' mean beats are marked."""
        kind = "within-element " if self.within_element else ""
        titles = {metric: f"{kind}{metric.upper()}" for metric in self.metrics}
        worse = {}
        if "lfre" in self.metrics:
            worse = {titles["lfre"]: self.matrix("lfre") >= self.matrix(MEAN_OF)}
        matrices = {titles[metric]: self.matrix(metric) for metric in self.metrics}
        return error_heat_maps(matrices, marked=worse, n_models=len(self.models))

    def __str__(self) -> str:
        """What was compared, and the spread of the errors, in sentences."""
        groups = {"atom": "atom", "group": f"groups of the split by {self.by}"}[self.folds]
        splits = f"{len(self.seeds)} split{'s' if len(self.seeds) > 1 else ''}"
        sentences = [
            f"{len(self.names)} sets of features on {len(self.structures)} structures, {splits} by "
            f"{self.by} with {min(self.n_test)} test atoms or more, folds by {groups}"
            f"{', within elements' if self.within_element else ''}."
        ]
        for metric in self.metrics:
            part = self.table[self.table["metric"] == metric]
            low, high = part.loc[part["error"].idxmin()], part.loc[part["error"].idxmax()]
            sentences.append(
                f"{metric.upper()}: median {part['error'].median():.2f}, from {low['error']:.2f} "
                f"({low['source']} to {low['target']}) to {high['error']:.2f} ({high['source']} to "
                f"{high['target']})."
            )
            if metric == "lfre":
                n_below = int((part["error"] < part[MEAN_OF]).sum())
                sentences.append(
                    f"{n_below} of {len(part)} lie below the error of the neighbours' mean."
                )
        if self.dropped:
            sentences.append(f"Structures that a model refused: {len(self.dropped)}.")
        sentences += [f"Left out {name}: {why}" for name, why in self.left_out.items()]
        return " ".join(sentences)

    def _repr_html_(self) -> str:
        tables = [self.matrix(metric).round(3).to_html(border=0) for metric in self.metrics]
        return f"<p>{self}</p>" + "".join(tables)

    def _errors(self, metric: str) -> np.ndarray:
        """(n_splits, n, n)."""
        splits = zip(self.squares[metric], self.counts[metric], strict=True)
        return np.sqrt([s.sum(axis=0) / c.sum() for s, c in splits])

    def _resampled(self, metric: str) -> np.ndarray:
        """(n_bootstrap, n, n) medians over drawn splits, NaN if none are wanted."""
        shape = (len(self.names), len(self.names))
        if not self.n_bootstrap:
            return np.full((1, *shape), np.nan)
        if metric not in self._drawn:
            rng = np.random.default_rng(0)
            values = []
            for squares, counts in zip(self.squares[metric], self.counts[metric], strict=True):
                n = len(counts)
                weights = rng.multinomial(n, np.full(n, 1 / n), self.n_bootstrap)
                values.append(np.tensordot(weights, squares, 1) / (weights @ counts)[:, None, None])
            splits = rng.integers(len(values), size=(len(values), self.n_bootstrap))
            drawn = np.sqrt(values)[splits, np.arange(self.n_bootstrap)]
            self._drawn[metric] = np.median(drawn, axis=0)
        return self._drawn[metric]

    @cached_property
    def _drawn(self) -> dict[str, np.ndarray]:
        return {}

    def _long(self, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Ordered pairs of different names, and their entries of some matrices."""
        rows, places = np.nonzero(~np.eye(len(self.names), dtype=bool))
        names = np.array(self.names, dtype=object)
        entries = {key: matrix[rows, places] for key, matrix in columns.items()}
        return pd.DataFrame({"source": names[rows], "target": names[places], **entries})


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
    folds: str | None = None,
    baselines: Sequence[str] = (),
    regularization: Regularization | None = None,
    n_local_points: int | None = None,
    n_bootstrap: int = 200,
    device: str = "cpu",
    progress: bool = False,
) -> Comparison:
    """Reconstruction errors of all ordered pairs of features, over splits, with intervals.

    Parameters
    ----------
    features
        Features of the same structures by name; those structures are compared that all have.
    metrics
        ``"gfre"``, ``"lfre"`` or both.
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
    folds
        ``"group"``: the folds that choose the regularisation keep together what the split does;
        ``"atom"``: those of `skmatter.metrics`. By default they follow the split.
    baselines
        Names that stand apart: yardsticks, not models.
    regularization, n_local_points, device, progress
        As in `reconstruction_matrix`.
    n_bootstrap
        Resamples of the intervals; 0 for none.

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
    unknown = [m for m in metrics if m not in METRICS]
    if unknown:
        raise InputError(f"{unknown[0]}: no such metric, only {' and '.join(METRICS)}.")
    if len(features) < 2:
        raise InputError("A comparison needs at least two sets of features.")
    found = dict(zip(features, common_structures(list(features.values())), strict=True))
    one = next(iter(found.values()))
    if any(not np.array_equal(f.numbers, one.numbers) for f in found.values()):
        raise InputError("The features do not describe the same structures.")
    owner = owners(one, by, groups)
    seeds = tuple(range(seed, seed + n_splits))
    splits = drawn_splits(one, owner, by, n_test, seeds)
    if not 0 < train_share <= 1:
        raise InputError(f"train_share {train_share}: must lie between 0 and 1.")
    if train_share < 1:
        splits = [
            (shared(train, owner, train_share, s), test)
            for s, (train, test) in zip(seeds, splits, strict=True)
        ]
    if within_element:
        splits = [(train, of_known_elements(one.numbers, train, test)) for train, test in splits]
    if elements is not None:
        wanted = np.isin(one.numbers, symbols2numbers(list(elements)))
        splits = [(train, test[wanted[test]]) for train, test in splits]
    if min(len(test) for _, test in splits) == 0:
        raise InputError("A split leaves no test atom of an element with enough training atoms.")
    tables = {
        n: f.features for n, f in sorted(found.items(), key=lambda item: item[0] in baselines)
    }

    def seen(name: str, train: np.ndarray) -> np.ndarray:
        x = tables[name]
        return subtract_element_means(x, one.numbers, train) if within_element else x

    left_out: dict[str, str] = {}
    for name, (train, _) in product(tables, splits):
        if why := constant(seen(name, train)[train], name):
            left_out[name] = why
    names = tuple(name for name in tables if name not in left_out)
    if len(names) < 2:
        raise InputError(" ".join(["Two sets of features are needed.", *left_out.values()]))
    folds = folds or ("atom" if by == "atom" else "group")
    options = {
        "groups": owner if folds == "group" else None,
        "regularization": regularization,
        "n_local_points": n_local_points,
        "device": device,
        "progress": progress,
    }
    squares: dict[str, list[np.ndarray]] = {}
    counts: dict[str, list[np.ndarray]] = {}
    for train, test in splits:
        chosen = {name: seen(name, train) for name in names}
        for metric in metrics:
            part = test if metric == "gfre" else thinned(test, n_test_local)
            pointwise = pointwise_errors(chosen, train, part, metric, **options)
            for kind, errors in ((metric, pointwise.errors), (MEAN_OF, pointwise.neighbours)):
                if errors:
                    sums, sizes = by_group(errors, names, owner[part])
                    squares.setdefault(kind, []).append(sums)
                    counts.setdefault(kind, []).append(sizes)
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
        counts=counts,
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
    return np.repeat(np.unique(labels, return_inverse=True)[1].reshape(-1), one.n_atoms)


def drawn_splits(
    one: Features, owner: np.ndarray, by: str, n_test: int | None, seeds: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test atoms for each seed."""
    if n_test is None:
        n_test = max(1, min(1000, len(owner) // 4))
    starts = np.cumsum(one.n_atoms) - one.n_atoms
    way = "atom" if by == "atom" else "structure"
    return [
        split_atoms(one.n_atoms, n_test, by=way, groups=owner[starts], seed=seed) for seed in seeds
    ]


def shared(train: np.ndarray, owner: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The training atoms of a share of their groups."""
    groups = np.random.default_rng(seed).permutation(np.unique(owner[train]))
    return train[np.isin(owner[train], groups[: max(2, round(share * len(groups)))])]


def constant(features: np.ndarray, name: str) -> str:
    """A sentence if the features do not vary, nothing if they do."""
    x = np.asarray(features, dtype=np.float64)
    try:
        check_spread(np.sqrt(x.var(axis=0).sum()), np.abs(x.mean(axis=0)).max(), name)
    except InputError as error:
        return str(error)
    return ""


def thinned(test: np.ndarray, n: int | None) -> np.ndarray:
    """About n of the test atoms, evenly taken."""
    return test[:: max(1, len(test) // (n or len(test)))]


def by_group(
    errors: Mapping[tuple[str, str], np.ndarray], names: Sequence[str], owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n_groups, n, n) sums of the squared errors of each group of test atoms, and their number."""
    group = np.unique(owner, return_inverse=True)[1].reshape(-1)
    sums = [[np.bincount(group, np.square(errors[s, t])) for t in names] for s in names]
    return np.moveaxis(np.array(sums), 2, 0), np.bincount(group)
