r"""The linear map behind both reconstruction errors, for many problems and targets at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import KFold

from .resources import InputError

FOLD_SEED = 0x5F3759DF  # of skmatter.metrics
REGULARIZATIONS = ("cutoff", "tikhonov")


@dataclass(frozen=True)
class Regression:
    r"""How the map is regularized; the defaults are those of `skmatter.metrics`.

    Attributes
    ----------
    n_cutoffs
        Number of strengths :math:`\alpha` to choose from, evenly spaced in their logarithm from
        1e-9 to 0.9 of the largest singular value.
    regularization
        ``"cutoff"`` replaces :math:`1/s` by zero where :math:`s \le \alpha`, ``"tikhonov"``
        by :math:`s/(s^2 + \alpha)` everywhere.
    """

    n_cutoffs: int = 20
    regularization: str = "cutoff"

    def __post_init__(self) -> None:
        if self.n_cutoffs < 1:
            raise InputError(f"n_cutoffs {self.n_cutoffs}: at least one is needed.")
        if self.regularization not in REGULARIZATIONS:
            raise InputError(
                f"{self.regularization}: a map is regularized by {' or '.join(REGULARIZATIONS)}."
            )

    @property
    def relative(self) -> np.ndarray:
        """(n_cutoffs,) strengths relative to the largest singular value."""
        return np.geomspace(1e-9, 0.9, self.n_cutoffs)

    def inverse(self, s: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """Regularized reciprocal of singular values."""
        if self.regularization == "cutoff":
            return torch.where(s > strength, 1 / s, 0.0)
        return s / (s**2 + strength)


DEFAULT = Regression()


def folds(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of n samples."""
    return next(KFold(2, shuffle=True, random_state=FOLD_SEED).split(np.zeros(n)))


class TwoFoldRegression:
    r"""Batched least squares whose regularization is chosen by two-fold cross-validation.

    The estimator of `skmatter.linear_model.Ridge2FoldCV` with relative strengths. For one source
    it is factorised once and then fitted to any number of targets. With the singular values
    :math:`s_j`, vectors :math:`u_j, v_j` of one fold, keeping r of them predicts the other fold as
    :math:`\sum_{j \le r} a_j b_j^T`, :math:`a_j = X' v_j / s_j`, :math:`b_j = Y^T u_j`. The
    squared residual of each target column changes with the r-th term by
    :math:`-2 b_r (a_r^T y' - \sum_{j<r} a_r^T a_j b_j) + a_r^T a_r b_r^2`, so that the loss at
    every cutoff follows from one Gram matrix of the :math:`a_j` and a cumulative sum.

    Parameters
    ----------
    first, second
        (batch, rows, width): the source in the two folds.
    whole
        (batch, rows, width): the source in both.
    n_rows
        Samples in the two folds: more than the rows above if these are factors.
    settings
        The regularization.
    """

    def __init__(
        self,
        first: torch.Tensor,
        second: torch.Tensor,
        whole: torch.Tensor,
        n_rows: Sequence[int],
        settings: Regression = DEFAULT,
    ) -> None:
        self.n_rows = n_rows
        self.settings = settings
        tiny = max(n_rows[0] + n_rows[1], whole.shape[-1]) * torch.finfo(whole.dtype).eps
        svds = [svd(x) for x in (first, second)]
        largest = torch.maximum(svds[0][1][:, 0], svds[1][1][:, 0])
        self.strengths = largest[:, None] * torch.as_tensor(settings.relative).to(whole)
        self.halves = []
        for (u, s, vh), other in zip(svds, (second, first), strict=True):
            s = torch.where(s > tiny, s, 0.0)
            a = (other @ vh.mT) * torch.where(s > 0, 1 / s, 0.0)[:, None, :]
            gram = torch.tril(a.mT @ a)
            # twice the part below the diagonal, once the diagonal
            lower = 2 * gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
            ranks = (s[:, None, :] > self.strengths[:, :, None]).sum(-1)
            self.halves.append((u, s, a, lower, ranks))
        self.u, self.s, self.vh = svd(whole)

    def losses(
        self, first: torch.Tensor, second: torch.Tensor, widths: Sequence[int]
    ) -> torch.Tensor:
        """(batch, n_models, n_cutoffs) cross-validated error of targets side by side.

        It is the root mean square over the rows, averaged over the columns of a target.
        """
        total = 0.0
        pairs = ((first, second, self.n_rows[1]), (second, first, self.n_rows[0]))
        for (u, s, a, lower, ranks), (y, y_other, n) in zip(self.halves, pairs, strict=True):
            b = u.mT @ y
            if self.settings.regularization == "cutoff":
                step = b * torch.baddbmm(a.mT @ y_other, lower, b, beta=-2)
                squares = torch.cat([y_other.square().sum(dim=1, keepdim=True), step], dim=1)
                squares = torch.cumsum(squares, dim=1)
            else:
                kept = (s * self.settings.inverse(s, x[:, None]) for x in self.strengths.T)
                left = [y_other - a @ (k[..., None] * b) for k in kept]
                squares = torch.stack([x.square().sum(dim=1) for x in left], dim=1)
            norms = squares.clamp_(min=0).sqrt_()
            loss = torch.stack([x.mean(dim=-1) for x in norms.split(list(widths), dim=-1)], dim=1)
            if self.settings.regularization == "cutoff":
                loss = torch.gather(loss, 2, ranks[:, None].expand(-1, len(widths), -1))
            total = total + loss / n**0.5
        return total

    def inverses(
        self, first: torch.Tensor, second: torch.Tensor, widths: Sequence[int]
    ) -> torch.Tensor:
        """(batch, n_models, rank) regularized reciprocals of the singular values."""
        # the first of equal losses, as scikit-matter takes it
        best = torch.argmin(self.losses(first, second, widths), dim=-1)
        strength = torch.gather(self.strengths, 1, best)
        return self.settings.inverse(self.s[:, None], strength[..., None])

    def fit(self, first: torch.Tensor, second: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """(batch, width, n_columns) weights of the map to one target."""
        inverse = self.inverses(first, second, [whole.shape[-1]])
        return self.vh.mT @ (inverse.mT * (self.u.mT @ whole))

    def predict(
        self,
        x: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
        whole: torch.Tensor,
        widths: Sequence[int],
    ) -> list[torch.Tensor]:
        """(batch, n_columns) image of one point of each problem, for every target.

        From left to right no product of two matrices is left.
        """
        inverse = self.inverses(first, second, widths)
        shares = ((x[:, None] @ self.vh.mT) * inverse) @ self.u.mT
        parts = whole.split(list(widths), dim=-1)
        return [(shares[:, i : i + 1] @ y)[:, 0] for i, y in enumerate(parts)]


def svd(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Thin singular value decomposition; wide matrices are transposed, which is twice as fast."""
    if x.shape[-2] < x.shape[-1]:
        v, s, uh = torch.linalg.svd(x.mT, full_matrices=False)
        return uh.mT, s, v.mT
    return torch.linalg.svd(x, full_matrices=False)
