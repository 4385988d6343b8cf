"""The result of a comparison: errors of all pairs over splits, their intervals, a heat map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.random import Generator

from ..plots.matrices import error_heat_maps
from .gfre import Pairwise
from .similarity import MEASURES

Pairs = Sequence[tuple[str, str]]

NEIGHBOURS_MEAN = "neighbours"  # the error of predicting it: the LFRE's own baseline


class Estimate(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float = np.nan
    high: float = np.nan


def estimate(values: np.ndarray) -> Estimate:
    """The first of some numbers, and the 95 % interval of the others, if there are any.

    Examples
    --------
    >>> estimate(np.array([0.5, 0.0, 1.0]))
    Estimate(value=0.5, low=0.025, high=0.975)
    """
    return Estimate(*map(float, (values[0], *interval(values))))


def interval(draws: np.ndarray) -> np.ndarray:
    """(2, ...) ends of the 95 % interval of all but the first, NaN if there are none."""
    return np.quantile(draws[1:] if len(draws) > 1 else np.nan * draws, [0.025, 0.975], axis=0)


def resample_errors(
    found: Pairwise, names: Sequence[str], labels: np.ndarray, n_resamples: int, rng: Generator
) -> np.ndarray:
    """(1 + n_resamples, n_kinds, n, n) errors over all test atoms, then over drawn groups of them.

    The labels (n_test,) say what each atom is drawn with.
    """
    group = np.unique(labels, return_inverse=True)[1]
    sizes, n_kinds = np.bincount(group), len(next(iter(found.values())))
    n = len(sizes)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), n_resamples)])
    errors = np.full((len(weights), n_kinds, len(names), len(names)), np.nan)
    for (source, target), kinds in found.items():
        for i, norms in enumerate(kinds):
            squares = weights @ np.bincount(group, norms**2) / (weights @ sizes)
            errors[:, i, names.index(source), names.index(target)] = np.sqrt(squares)
    return errors


def resample_halves(values: np.ndarray, n_resamples: int, rng: Generator) -> np.ndarray:
    """(1 + n_resamples, ...) the value of a whole, then drawn halves, moved by their mean onto it.

    Without at least two halves (`half_samples`) there is the value alone.
    """
    if len(values) < 3:
        return values[:1]
    moved = values[0] + (values[1:] - values[1:].mean(axis=0))
    return np.concatenate([values[:1], moved[rng.integers(len(moved), size=n_resamples)]])


def bootstrap_medians(samples: Sequence[np.ndarray], rng: Generator) -> np.ndarray:
    """(1 + n_resamples, ...) medians over splits, then over drawn ones.

    Of each split (1 + n_resamples, ...), its value and resamples; as many are used as all have.
    """
    n_splits, n_resamples = len(samples), min(map(len, samples)) - 1
    values = np.array([each[: 1 + n_resamples] for each in samples])
    drawn = rng.integers(n_splits, size=(n_splits, n_resamples))
    again = values[drawn, 1 + np.arange(n_resamples)]
    return np.median(np.concatenate([values[:, :1], again], axis=1), axis=0)


@dataclass
class Comparison:
    """Reconstruction errors and other measures of all ordered pairs; from `compare`.

    Every number is a median over the splits. The 95 % intervals are those of a bootstrap that
    draws splits anew and, in each, the test structures (by system, the chemical systems), so that
    they cover both. For a measure on the test atoms alone, random halves of these structures take
    the place of the draws, moved by their mean onto the value of the whole (`half_samples`).

    Attributes
    ----------
    names
        Of the compared features, in the order of the matrices.
    metrics
        Their names, a function's own for a measure of yours.
    folds, within_element, baselines
        See `compare`.
    seeds
        Of each split.
    structures
        (n_structures,) input indices of the structures that all models accept.
    dropped
        Input index of the others, and why a model refused them.
    left_out
        Name, and why these features could not be compared.
    n_train, n_test
        Atoms of each split.
    errors
        By metric (n_splits, n, n), the LFRE's neighbours' mean as ``"neighbours"``.
    draws
        By metric (1 + n_draws, n, n): the medians over the splits, and those of the bootstrap.
    """

    names: tuple[str, ...]
    metrics: tuple[str, ...]
    folds: str
    within_element: bool
    baselines: tuple[str, ...]
    seeds: Sequence[int]
    structures: np.ndarray
    dropped: dict[int, str]
    left_out: dict[str, str]
    n_train: list[int]
    n_test: list[int]
    errors: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]

    @property
    def models(self) -> list[str]:
        """The names that are not baselines."""
        return [name for name in self.names if name not in self.baselines]

    @cached_property
    def by_split(self) -> pd.DataFrame:
        """A row per metric, split and ordered pair: ``metric``, ``source``, ``target``, ``error``
        (the value of another measure), ``split`` (its seed), and ``neighbours``, the error of the
        mean of the LFRE's neighbours.
        """
        rows = []
        for metric, (i, seed) in product(self.metrics, enumerate(self.seeds)):
            values = {kind: each[i] for kind, each in self.errors.items()}
            rows.append(self._rows(metric, values, split=seed))
        return pd.concat(rows, ignore_index=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per metric and ordered pair: ``metric``, ``source``, ``target``, ``error``, its
        interval ``low`` and ``high``, and ``neighbours`` as in `by_split`.
        """
        rows, values = [], {kind: draws[0] for kind, draws in self.draws.items()}
        for metric in self.metrics:
            ends = zip(("low", "high"), interval(self.draws[metric]), strict=True)
            rows.append(self._rows(metric, values, **dict(ends)))
        return pd.concat(rows, ignore_index=True)

    def matrix(self, metric: str = "gfre") -> pd.DataFrame:
        """Medians over the splits: row = source, column = target.

        ``"neighbours"`` gives the errors of the mean of the LFRE's neighbours.
        """
        index = pd.Index(self.names, name="source")
        return pd.DataFrame(self.draws[metric][0], index, self.names)

    def mean(
        self, sources: Sequence[str], targets: Sequence[str], metric: str = "gfre"
    ) -> Estimate:
        """Mean error over the ordered pairs of different names, with its interval.

        Names that are not part of the comparison are passed over; without any pair it is NaN.
        """
        return self.over([*product(sources, targets)], metric)

    def over(self, pairs: Pairs, metric: str = "gfre") -> Estimate:
        """As `mean`, over chosen ordered pairs; one that is named twice counts twice."""
        return estimate(self._draws_over(pairs, metric))

    def ratio(self, pairs: Pairs, floor: Pairs, metric: str = "gfre") -> Estimate:
        """Mean error over some ordered pairs, divided by that over others of the same draw.

        Its interval is narrower than that of two independent numbers, since both vary with the
        same test structures. Names are passed over as in `mean`.
        """
        return estimate(self._draws_over(pairs, metric) / self._draws_over(floor, metric))

    def heat_map(self) -> Figure:
        """The matrices, baselines set apart; LFREs that their neighbours' mean beats are marked."""
        kind = "within-element " if self.within_element else ""
        titles = {metric: f"{kind}{metric.upper()}" for metric in self.metrics}
        matrices = {title: self.matrix(metric) for metric, title in titles.items()}
        worse = {
            titles[m]: self.matrix(m) >= self.matrix(NEIGHBOURS_MEAN) for m in titles if m == "lfre"
        }
        alike = {titles[m]: "similarity" for m in titles if m in MEASURES and MEASURES[m].larger}
        return error_heat_maps(matrices, marked=worse, alike=alike, n_models=len(self.models))

    def _repr_html_(self) -> str:
        tables = [f"<p>{m}</p>" + self.matrix(m).round(3).to_html() for m in self.metrics]
        return "".join([*tables, *(f"<p>{why}</p>" for why in self.left_out.values())])

    def _draws_over(self, pairs: Pairs, metric: str) -> np.ndarray:
        """(1 + n_draws,) mean error over pairs of different names, and that of each draw."""
        here = [(s, t) for s, t in pairs if s != t and {s, t} <= set(self.names)]
        if not here:
            return np.array([np.nan])
        rows, columns = np.array([[self.names.index(s), self.names.index(t)] for s, t in here]).T
        return self.draws[metric][:, rows, columns].mean(axis=1)

    def _rows(
        self, metric: str, values: Mapping[str, np.ndarray], **columns: np.ndarray | int
    ) -> pd.DataFrame:
        """Ordered pairs of different names that have an error, and their entries of matrices."""
        neighbours = values[NEIGHBOURS_MEAN] if metric == "lfre" else np.nan
        columns = {"error": values[metric], **columns, "neighbours": neighbours}
        pairs = ~np.eye(len(self.names), dtype=bool)
        source, target = np.array(self.names, dtype=object)[np.array(np.nonzero(pairs))]
        columns = {name: np.broadcast_to(m, pairs.shape)[pairs] for name, m in columns.items()}
        rows = pd.DataFrame({"metric": metric, "source": source, "target": target} | columns)
        return rows.dropna(subset="error")
