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
from . import SIMILARITIES
from .gfre import Pairwise

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
    members = np.unique(labels)[:, None] == labels
    n, n_kinds = len(members), len(next(iter(found.values())))
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), n_resamples)]) @ members
    errors = np.full((len(weights), n_kinds, len(names), len(names)), np.nan)
    for (source, target), norms in found.items():
        squares = weights @ np.square(norms).T / weights.sum(axis=1, keepdims=True)
        errors[:, :, names.index(source), names.index(target)] = np.sqrt(squares)
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
    structures
        (n_structures,) input indices of the structures that all models accept.
    left_out
        Name, and why these features could not be compared.
    warnings
        Name, or ``"structures"``, and why these numbers mislead; see `warn_of_few`.
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
    structures: np.ndarray
    left_out: dict[str, str]
    warnings: dict[str, str]
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
        (the value of another measure), ``split``, from 0 on, and ``neighbours``, the error of the
        mean of the LFRE's neighbours.
        """
        splits = product(self.metrics, range(len(self.n_test)))
        rows = [self._rows(metric, self.errors, i, split=i) for metric, i in splits]
        return pd.concat(rows, ignore_index=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per metric and ordered pair: ``metric``, ``source``, ``target``, ``error``, its
        interval ``low`` and ``high``, and ``neighbours`` as in `by_split`.
        """
        ends = {metric: interval(self.draws[metric]) for metric in self.metrics}
        rows = [self._rows(m, self.draws, 0, low=low, high=high) for m, (low, high) in ends.items()]
        return pd.concat(rows, ignore_index=True)

    def matrix(self, metric: str = "gfre") -> pd.DataFrame:
        """Medians over the splits: row = source, column = target.

        ``"neighbours"`` gives the errors of the mean of the LFRE's neighbours.
        """
        index = pd.Index(self.names, name="source")
        return pd.DataFrame(self.draws[metric][0], index, self.names)

    def over(self, pairs: Pairs, metric: str = "gfre") -> Estimate:
        """Mean error over ordered pairs, with its interval; one that is named twice counts twice.

        Pairs of one name, and names that are not part of the comparison, are passed over; without
        any pair it is NaN.
        """
        return estimate(self._draws_over(pairs, metric))

    def ratio(self, pairs: Pairs, floor: Pairs, metric: str = "gfre") -> Estimate:
        """Mean error over some ordered pairs, divided by that over others of the same draw.

        Its interval is narrower than that of two independent numbers, since both vary with the
        same test structures. Names are passed over as in `over`.
        """
        return estimate(self._draws_over(pairs, metric) / self._draws_over(floor, metric))

    def heat_map(self) -> Figure:
        """The matrices, baselines set apart; LFREs that their neighbours' mean beats are marked,
        and so are names that a warning is about.
        """
        kind = "within-element " if self.within_element else ""
        titles = {metric: f"{kind}{metric.upper()}" for metric in self.metrics}
        matrices = {title: self.matrix(metric) for metric, title in titles.items()}
        near = [title for metric, title in titles.items() if metric == "lfre"]
        worse = {title: matrices[title] >= self.matrix(NEIGHBOURS_MEAN) for title in near}
        alike = [titles[m] for m in titles if m in SIMILARITIES]
        marks = {"marked": worse, "alike": alike, "uneven": self.warnings}
        return error_heat_maps(matrices, n_models=len(self.models), **marks)

    def _repr_html_(self) -> str:
        tables = [f"<p>{m}</p>" + self.matrix(m).round(3).to_html() for m in self.metrics]
        notes = [*self.left_out.values(), *self.warnings.values()]
        return "".join([*tables, *(f"<p>{note}</p>" for note in notes)])

    def _draws_over(self, pairs: Pairs, metric: str) -> np.ndarray:
        """(1 + n_draws,) mean error over pairs of different names, and that of each draw."""
        here = [(s, t) for s, t in pairs if s != t and {s, t} <= set(self.names)]
        if not here:
            return np.array([np.nan])
        rows, columns = np.array([[self.names.index(s), self.names.index(t)] for s, t in here]).T
        return self.draws[metric][:, rows, columns].mean(axis=1)

    def _rows(
        self, metric: str, values: Mapping[str, np.ndarray], place: int, **columns: np.ndarray | int
    ) -> pd.DataFrame:
        """Ordered pairs of different names that have an error, of the matrices at one place."""
        neighbours = values[NEIGHBOURS_MEAN][place] if metric == "lfre" else np.nan
        columns = {"error": values[metric][place], **columns, "neighbours": neighbours}
        n, names = len(self.names), np.array(self.names, dtype=object)
        source, target = np.nonzero(~np.eye(n, dtype=bool))
        ends = {"metric": metric, "source": names[source], "target": names[target]}
        columns = {k: np.broadcast_to(m, (n, n))[source, target] for k, m in columns.items()}
        return pd.DataFrame(ends | columns).dropna(subset="error")
