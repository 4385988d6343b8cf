r"""GFRE from one pass over the atoms, in memory that does not grow with their number.

A linear map and its error depend on the data only through products of columns. The triangular
factor R of a QR factorisation :math:`[\mathbf 1, X] = QR` keeps all of them at full precision,
which a covariance matrix would not, and the factor of more rows is the factor of the stacked
factors: blocks of atoms can come one after the other, or from different machines. Through the
column of ones, shifting the features by any vector changes only the first row of R.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import pad

from .regression import (
    CUTOFF,
    Folds,
    Regularization,
    TwoFoldRegression,
    default_regularization,
    two_folds,
)
from .resources import InputError

PARTS = ("fold 1", "fold 2", "test")
SEPARATE = 1e-3  # share of a square that keeps all but three of its digits in a difference
Pairwise = dict[tuple[str, str], np.ndarray]  # by source and target


class TriangularFactors:
    """Triangular factors of the features of all models side by side, for both folds and the test.

    Parameters
    ----------
    device
        Where the factorisations run, as PyTorch names it.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.columns: dict[str, slice] = {}
        self.counts = [0] * len(PARTS)

    def update(self, block: Mapping[str, np.ndarray], labels: np.ndarray) -> TriangularFactors:
        """Take in the atoms of a block.

        Parameters
        ----------
        block
            Name to (n_atoms, width), the same atoms in every table.
        labels
            The part of each atom, from `part_labels`; those without a label are in none.
        """
        tables = {name: checked_table(x, name) for name, x in block.items()}
        if len({len(x) for x in tables.values()}) != 1:
            raise InputError("A block must hold the same atoms of every model.")
        ends = np.cumsum([0, *(x.shape[1] for x in tables.values())]).tolist()
        columns = dict(zip(tables, map(slice, ends[:-1], ends[1:]), strict=True))
        if self.columns and columns != self.columns:
            raise InputError("A block holds other models or widths than the first one.")
        x = torch.from_numpy(np.concatenate(list(tables.values()), axis=1)).to(self.device)
        if not self.columns and len(x):
            self.columns = columns
            # near the mean, so that a spread much smaller than the mean keeps its digits
            self.shift = x.mean(dim=0)
            self.factors = [x.new_zeros(0, 1 + x.shape[1]) for _ in PARTS]
        for part in range(len(PARTS)):
            chosen = np.flatnonzero(labels == part)
            if len(chosen):
                added = pad(x[chosen], (1, 0), value=1.0)
                added[:, 1:] -= self.shift
                self.factors[part] = triangular(torch.cat([self.factors[part], added]))
                self.counts[part] += len(chosen)
        return self

    def merge(self, other: TriangularFactors) -> TriangularFactors:
        """The factors of the atoms of both; neither is changed."""
        if not self.columns or not other.columns:
            return self if self.columns else other
        if self.columns != other.columns:
            raise InputError("Factors of other models or widths cannot be merged.")
        merged = TriangularFactors(self.device)
        merged.columns, merged.shift = self.columns, self.shift
        merged.factors = [
            triangular(torch.cat([r, other._shifted(part, self.shift)]))
            for part, r in enumerate(self.factors)
        ]
        merged.counts = [n + m for n, m in zip(self.counts, other.counts, strict=True)]
        return merged

    def _shifted(self, part: int, shift: torch.Tensor) -> torch.Tensor:
        """The factor of the features less another shift."""
        r = self.factors[part].clone()
        r[:1, 1:] += r[:1, :1] * (self.shift - shift)
        return r

    def standardization(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_columns,) mean and scale: unit total variance of a model on the training atoms."""
        n = sum(self.counts[:2])
        if min(self.counts[:2]) < 2:
            raise InputError(f"{n} training atoms are too few.")
        mean = self.shift + sum(r[0, 0] * r[0, 1:] for r in self.factors[:2]) / n
        variance = sum(self._shifted(part, mean)[:, 1:].square().sum(dim=0) for part in (0, 1)) / n
        scale = torch.empty_like(mean)
        for name, s in self.columns.items():
            scale[s] = variance[s].sum().sqrt()
            check_spread(float(scale[s][0]), float(mean[s].abs().max()), name)
        return mean, scale

    def standardized(self, part: int) -> torch.Tensor:
        """The factor of the standardized features."""
        mean, scale = self.standardization()
        return self._shifted(part, mean)[:, 1:] / scale

    def residuals(
        self,
        x: torch.Tensor,
        chosen: Regularization,
        pairs: Container[tuple[str, str]] | None = None,
        turned: bool = False,
    ) -> Pairwise:
        """(n_rows,) norms of what the linear maps miss of rows of standardized features.

        Of all pairs, or those of `pairs`; `turned`, of what the best rotation of the source's
        features misses of the image of the linear map.
        """
        halves = self.standardized(0), self.standardized(1)
        lengths = [r.square().sum(dim=0) for r in halves]
        found = {}
        for source, s in self.columns.items():
            targets = [t for t in self.columns if pairs is None or (source, t) in pairs]
            if not targets:
                continue
            # triangular but for the column of ones, which is gone: no more rows than these
            axes = [torch.linalg.qr(r[: s.stop + 1, s]).Q for r in halves]

            def folds(columns: slice, axes: list[torch.Tensor] = axes) -> Folds:
                parts = zip(axes, halves, lengths, strict=True)
                first, second = (
                    turned_onto(q, r[:, columns], n[columns])[None] for q, r, n in parts
                )
                return first, second, torch.cat([first, second], dim=1)

            own = folds(s)
            fitted = TwoFoldRegression(own, self.counts[:2], chosen)
            for target in targets:
                t = self.columns[target]
                weights = fitted.fit(folds(t))[0]
                missed = x[:, t] - x[:, s] @ weights
                if turned:
                    missed = x[:, s] @ less_rotation(weights, own[2][0])
                found[source, target] = missed.norm(dim=1).cpu().numpy()
        return found

    def errors(self, regularization: Regularization = CUTOFF) -> pd.DataFrame:
        """GFRE of all ordered pairs of models: row = source, column = target."""
        if self.counts[2] == 0:
            raise InputError("0 test atoms are too few.")
        return error_matrix(self.residuals(self.standardized(2), regularization), self.counts[2])


def error_matrix(errors: Pairwise, n_test: int) -> pd.DataFrame:
    """Root mean squares over the test atoms: row = source, column = target."""
    names = list(dict.fromkeys(source for source, _ in errors))
    table = [[np.linalg.norm(errors[s, t]) / n_test**0.5 for t in names] for s in names]
    return pd.DataFrame(table, index=pd.Index(names, name="source"), columns=names)


def turned_onto(axes: torch.Tensor, columns: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """(n_axes + 1, width) columns turned so that the axes come first, and what is left of each.

    Maps from columns that lie in the span of the axes, and their errors, depend on no more. What is
    left is the difference of squares of lengths, and where these are so near to each other that it
    would lose digits, the length of what the axes miss.
    """
    rows = columns[: len(axes)]
    first = axes.mT @ rows
    left = squares - first.square().sum(dim=0)
    near = left < SEPARATE * squares
    missed = rows[:, near] - axes @ first[:, near]
    left[near] = missed.square().sum(dim=0) + columns[len(axes) :, near].square().sum(dim=0)
    return torch.cat([first, left.sqrt()[None]])


def less_rotation(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A map less the rotation that is nearest to it on some features, both padded with zeros."""
    missing = x.shape[1] - weights.shape[1]
    square = pad(weights, (0, max(missing, 0), 0, max(-missing, 0)))
    wide = pad(x, (0, max(-missing, 0)))
    u, _, vh = torch.linalg.svd(wide.mT @ wide @ square)
    return (square - u @ vh)[: x.shape[1]]


def triangular(x: torch.Tensor) -> torch.Tensor:
    """R of the QR factorisation."""
    return torch.linalg.qr(x, mode="r").R


def checked_table(features: np.ndarray, name: str) -> np.ndarray:
    """The features in float64, if they are a table of finite numbers."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise InputError(f"{name}: features must be a table (n_atoms, width).")
    if not np.isfinite(x).all():
        raise InputError(f"{name}: features hold a value that is not a finite number.")
    return x


def check_spread(scale: float, largest_mean: float, name: str) -> None:
    """Raise `InputError` if features are constant but for rounding."""
    if scale <= 1e-12 * (1 + largest_mean):
        raise InputError(f"{name}: features do not vary over the training atoms.")


def part_labels(
    train: np.ndarray, test: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """The part of every atom, as an index of `PARTS`, or -1 for none."""
    train, test = np.asarray(train, dtype=int), np.asarray(test, dtype=int)
    labels = np.full(max(train.max(initial=-1), test.max(initial=-1)) + 1, -1, dtype=np.int8)
    halves = two_folds(len(train), None if groups is None else np.asarray(groups)[train])
    for part, atoms in enumerate((*(train[half] for half in halves), test)):
        labels[atoms] = part
    if (labels >= 0).sum() != len(train) + len(test):
        raise InputError("An atom is named twice among the training and test atoms.")
    return labels


def streaming_gfre(
    blocks: Iterable[Mapping[str, np.ndarray]],
    train: np.ndarray,
    test: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    regularization: Regularization | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """GFRE of all ordered pairs, from features that are never in memory together.

    Parameters
    ----------
    blocks
        One mapping of name to (rows, width) after the other, in the order of the atoms; a few
        times more rows than the widths add up to is efficient.
    train, test
        Atom indices over all blocks, as from `split_atoms`.
    groups, regularization
        As in `reconstruction_matrix`.
    device
        Where the factorisations run, as PyTorch names it.

    Returns
    -------
    pandas.DataFrame
        As `reconstruction_matrix` gives it: row = source, column = target.

    Raises
    ------
    InputError
        Blocks that do not fit together, or that hold fewer atoms than the split names.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> blocks = [{"plain": x[i : i + 20], "doubled": 2 * x[i : i + 20]} for i in (0, 20, 40)]
    >>> streaming_gfre(blocks, np.arange(40), np.arange(40, 60)).round(6).to_numpy().tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    labels = part_labels(train, test, groups)
    factors = TriangularFactors(device)
    start = 0
    for block in blocks:
        stop = start + len(next(iter(block.values())))
        factors.update(block, labels[start:stop])
        start = stop
    if start < len(labels):
        raise InputError(f"The blocks hold {start} atoms, the split names atom {len(labels) - 1}.")
    return factors.errors(regularization or default_regularization(groups))
