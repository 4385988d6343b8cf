"""The result of a comparison: errors of all pairs over splits, their intervals, a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .figures import error_heat_maps
from .metrics import MEASURES

MEAN_OF = "neighbours"  # the LFRE's own baseline, kept beside it


class Estimate(NamedTuple):
    """A number and its 95 % interval; as text ``0.58 [0.55, 0.61]``."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{interval}"


def estimate(values: np.ndarray) -> Estimate:
    """The first of some numbers, and the 95 % interval of the others, if there are any.

    Examples
    --------
    >>> str(estimate(np.array([0.5, 0.0, 1.0])))
    '0.50 [0.03, 0.97]'
    """
    drawn = np.quantile(values[1:], [0.025, 0.975]) if len(values) > 1 else (np.nan, np.nan)
    return Estimate(float(values[0]), *map(float, drawn))


def draws(n: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(1 + n_resamples, n) how often each of n groups counts; in the first row once each."""
    return np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), n_resamples)])


def resampled_means(
    sums: np.ndarray, sizes: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """(1 + n_resamples, ...) means over all groups, then over drawn ones, from the groups' sums."""
    weights = draws(len(sizes), n_resamples, rng)
    return (np.tensordot(weights, sums, 1).T / (weights @ sizes)).T


@dataclass
class Comparison:
    """Reconstruction errors and other measures of all ordered pairs; from `compare`.

    Every number is a median over the splits. The 95 % intervals are those of a bootstrap that
    draws splits anew and, in each, the test structures (by system, the chemical systems), so that
    they cover both. For a measure on the test atoms alone, random halves of these structures take
    the place of the draws, moved by their mean onto the value of the whole (`on_halves`).

    Attributes
    ----------
    names
        Of the compared features, in the order of the matrices.
    metrics
        Of `metrics.METRICS` and `metrics.MEASURES`.
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
    squares
        By metric, for each split: (n_groups, n, n) sums of squared errors over the test atoms of a
        group, and (n_groups,) their number.
    halves
        By measure, for each split: (1 + n_halves, n, n), from `on_halves`.
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
    squares: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    halves: dict[str, list[np.ndarray]]

    @property
    def models(self) -> list[str]:
        """The names that are not baselines."""
        return [name for name in self.names if name not in self.baselines]

    @cached_property
    def by_split(self) -> pd.DataFrame:
        """A row per metric, split and ordered pair: ``metric``, ``split`` (its seed), ``source``,
        ``target``, ``error`` (the value of another measure), and ``neighbours``, the error of the
        mean of the LFRE's neighbours.
        """
        tables = []
        for metric in self.metrics:
            splits = zip(self.seeds, self._errors(metric), self._of_mean(metric), strict=True)
            for seed, error, of_mean in splits:
                tables.append(self._long(metric, split=seed, error=error, neighbours=of_mean))
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per metric and ordered pair: ``metric``, ``source``, ``target``, ``error``, its
        interval ``low`` and ``high``, and ``neighbours`` as in `by_split`.
        """
        tables = []
        for metric in self.metrics:
            error, *drawn = self._medians[metric]
            low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
            of_mean = np.median(self._of_mean(metric), axis=0)
            tables.append(self._long(metric, error=error, low=low, high=high, neighbours=of_mean))
        return pd.concat(tables, ignore_index=True)

    def matrix(self, metric: str = "gfre") -> pd.DataFrame:
        """Medians over the splits: row = source, column = target.

        ``"neighbours"`` gives the errors of the mean of the LFRE's neighbours.
        """
        index = pd.Index(self.names, name="source")
        return pd.DataFrame(self._medians[metric][0], index, self.names)

    def mean(
        self, sources: Sequence[str], targets: Sequence[str], metric: str = "gfre"
    ) -> Estimate:
        """Mean error over the ordered pairs of different names, with its interval.

        Names that are not part of the comparison are passed over; without any pair it is NaN.
        """
        return self.over([(s, t) for s in sources for t in targets], metric)

    def over(self, pairs: Sequence[tuple[str, str]], metric: str = "gfre") -> Estimate:
        """As `mean`, over chosen ordered pairs; one that is named twice counts twice."""
        return estimate(self._over(pairs, metric))

    def ratio(
        self,
        pairs: Sequence[tuple[str, str]],
        floor: Sequence[tuple[str, str]],
        metric: str = "gfre",
    ) -> Estimate:
        """Mean error over some ordered pairs, divided by that over others of the same draw.

        Its interval is narrower than that of two independent numbers, since both vary with the
        same test structures. Names are passed over as in `mean`.
        """
        return estimate(self._over(pairs, metric) / self._over(floor, metric))

    def heat_map(self) -> Figure:
        """The matrices, baselines set apart; LFREs that their neighbours' mean beats are marked."""
        kind = "within-element " if self.within_element else ""
        titles = {metric: f"{kind}{metric.upper()}" for metric in self.metrics}
        matrices = {title: self.matrix(metric) for metric, title in titles.items()}
        worse = {}
        if "lfre" in titles:
            worse[titles["lfre"]] = self.matrix("lfre") >= self.matrix(MEAN_OF)
        alike = {titles[m]: "similarity" for m in titles if m in MEASURES and MEASURES[m].larger}
        return error_heat_maps(matrices, marked=worse, alike=alike, n_models=len(self.models))

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
        if metric in self.halves:
            return np.array([values[0] for values in self.halves[metric]])
        return np.sqrt([sums.sum(axis=0) / sizes.sum() for sums, sizes in self.squares[metric]])

    def _of_mean(self, metric: str) -> np.ndarray:
        """(n_splits, n, n) errors of the neighbours' mean, NaN for a metric without neighbours."""
        return self._errors(MEAN_OF) if metric == "lfre" else np.nan * self._errors(metric)

    @cached_property
    def _medians(self) -> dict[str, np.ndarray]:
        """By metric, (1 + n_bootstrap, n, n): over the splits, and over drawn ones."""
        return {
            m: np.concatenate([np.median(self._errors(m), axis=0)[None], self._resampled(m)])
            for m in (*self.squares, *self.halves)
        }

    def _resampled(self, metric: str) -> np.ndarray:
        """(n_bootstrap, n, n) medians over drawn splits, NaN if none are wanted."""
        measured, n = self.halves.get(metric, []), self.n_bootstrap
        if n == 0 or any(len(values) < 3 for values in measured):
            return np.nan * self._errors(metric)
        rng = np.random.default_rng(0)
        drawn = [np.sqrt(resampled_means(*s, n, rng)[1:]) for s in self.squares.get(metric, [])]
        for whole, *halves in measured:
            moved = whole + (halves - np.mean(halves, axis=0))
            drawn.append(moved[rng.integers(len(halves), size=n)])
        splits = rng.integers(len(drawn), size=(len(drawn), n))
        return np.median(np.array(drawn)[splits, np.arange(n)], axis=0)

    def _over(self, pairs: Sequence[tuple[str, str]], metric: str) -> np.ndarray:
        """(1 + n_bootstrap,) mean error over pairs of different names, and that of each draw."""
        here = [(s, t) for s, t in pairs if s != t and {s, t} <= set(self.names)]
        if not here:
            return np.array([np.nan])
        rows, columns = np.array([[self.names.index(s), self.names.index(t)] for s, t in here]).T
        return self._medians[metric][:, rows, columns].mean(axis=1)

    def _long(self, metric: str, **columns: np.ndarray | int) -> pd.DataFrame:
        """Ordered pairs of different names that have an error, and their entries of matrices."""
        rows, places = np.nonzero(~np.eye(len(self.names), dtype=bool))
        names = np.array(self.names, dtype=object)
        entries = {k: m if np.isscalar(m) else m[rows, places] for k, m in columns.items()}
        pairs = {"metric": metric, "source": names[rows], "target": names[places]}
        return pd.DataFrame(pairs | entries).dropna(subset="error")
