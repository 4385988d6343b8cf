r"""The linear map behind both reconstruction errors, for many problems and targets at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import KFold

from .resources import InputError

FOLD_SEED = 0x5F3759DF  # of skmatter.metrics

Folds = Sequence[torch.Tensor]  # a table in the first fold, in the second, and in both


@dataclass(frozen=True)
class Regularization:
    r"""How a map is kept from following directions that the source hardly has.

    Attributes
    ----------
    kind
        ``"cutoff"`` replaces the reciprocal :math:`1/s` of a singular value by zero where
        :math:`s \le \alpha`, ``"tikhonov"`` by :math:`s/(s^2 + \alpha^2)` everywhere.
    strengths
        The :math:`\alpha` to choose from, relative to the largest singular value; infinity is no
        map at all, which predicts the mean.

    Notes
    -----
    `CUTOFF` is that of `skmatter.metrics`; the loss that chooses is scikit-learn's root mean
    squared error, averaged over the columns of a target. `TIKHONOV` was chosen by held-out error
    on real checkpoints (chapter "What the number depends on"). Its loss is the squared residual
    over all columns, the very quantity that a reconstruction error reports, and it ends where
    features in single precision do, at 1e-6.
    """

    kind: str
    strengths: tuple[float, ...]

    def inverse(self, s: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """Regularized reciprocal of singular values."""
        if self.kind == "cutoff":
            return torch.where(s > strength, 1 / s, 0.0)
        return torch.where(s > 0, s / (s**2 + strength**2), 0.0)


CUTOFF = Regularization("cutoff", tuple(np.geomspace(1e-9, 0.9, 20)))
TIKHONOV = Regularization("tikhonov", (*np.geomspace(1e-6, 1, 19), np.inf))


def default_regularization(groups: np.ndarray | None) -> Regularization:
    """scikit-matter's for folds by atom, the one measured to be best for folds by group."""
    return CUTOFF if groups is None else TIKHONOV


def two_folds(n: int, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of n samples, drawn one by one or group by group.

    Parameters
    ----------
    n
        Number of samples.
    groups
        (n,) labels: samples of one label, such as the atoms of one structure, stay together. The
        groups go, largest first, to the half that has fewer samples so far. Without labels the
        halves are those of `skmatter.metrics`.

    Raises
    ------
    InputError
        There are fewer than two groups.

    Examples
    --------
    >>> [fold.tolist() for fold in two_folds(5, np.array([7, 7, 7, 4, 4]))]
    [[0, 1, 2], [3, 4]]
    """
    if groups is None:
        return next(KFold(2, shuffle=True, random_state=FOLD_SEED).split(np.zeros(n)))
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError("Folds by group need training atoms of at least two groups.")
    drawn = np.random.default_rng(FOLD_SEED).permutation(len(sizes))
    loads, side = [0, 0], np.empty(len(sizes), dtype=int)
    for i in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        side[i] = loads[1] < loads[0]
        loads[side[i]] += sizes[i]
    return np.flatnonzero(side[group] == 0), np.flatnonzero(side[group] == 1)


def local_folds(groups: torch.Tensor) -> torch.Tensor:
    """(batch, k) the half, 0 or 1, of each of k neighbours, drawn group by group.

    Groups go, largest first and of equal ones the smaller label first, to the half with fewer
    samples so far, so that the halves do not depend on the order of the neighbours. The only group
    of a neighbourhood is its first half.

    Examples
    --------
    >>> local_folds(torch.tensor([[7, 4, 7, 9, 7]])).tolist()
    [[0, 1, 0, 1, 0]]
    """
    alike = groups[:, :, None] == groups[:, None, :]
    size, first = alike.sum(dim=2), alike.int().argmax(dim=2)
    leads = first == torch.arange(groups.shape[1], device=groups.device)
    label = torch.unique(groups, return_inverse=True)[1]
    order = torch.where(leads, size * (label.max() + 1) - label, -1).argsort(1, descending=True)
    size *= leads  # the first of a group stands for all of it
    loads = groups.new_zeros(len(groups), 2)
    side = torch.zeros_like(groups)
    for member in order.T[: int(leads.sum(dim=1).max())]:
        half = (loads[:, 1] < loads[:, 0]).long()[:, None]
        loads.scatter_add_(1, half, size.gather(1, member[:, None]))
        side.scatter_(1, member[:, None], half)
    return side.gather(1, first)


class TwoFoldRegression:
    r"""Batched least squares whose regularization is chosen by two-fold cross-validation.

    For one source it is factorised once and then fitted to any number of targets. With the
    singular values :math:`s_j`, vectors :math:`u_j, v_j` of one fold, a map predicts the other fold
    as :math:`\sum_j f_j a_j b_j^T`, :math:`a_j = X' v_j`, :math:`b_j = Y^T u_j`, with
    :math:`f_j` the regularized :math:`1/s_j`.

    * **Cutoff**, the estimator of `skmatter.linear_model.Ridge2FoldCV` with relative strengths:
      :math:`f_j` is either :math:`1/s_j` or 0, so with :math:`\hat a_j = a_j / s_j` the squared
      residual of each target column changes with the r-th term by
      :math:`-2 b_r (\hat a_r^T y' - \sum_{j<r} \hat a_r^T \hat a_j b_j) + \hat a_r^T \hat a_r
      b_r^2`, and the loss at every cutoff follows from one cumulative sum.
    * **Tikhonov**: the squared residual over all columns is a quadratic form in :math:`f`,
      :math:`\|Y'\|^2 - 2 \sum_j f_j\, a_j^T Y' b_j + \sum_{jl} f_j f_l\, (a_j^T a_l)(b_j^T b_l)`.

    Parameters
    ----------
    source
        Three tables (batch, rows, width), as of every target: its rows in the first fold, in the
        second, and in both. Rows of zeros change nothing.
    n_rows
        Samples in the two folds, numbers or one (batch,) for each: more than the rows above if
        those are factors, fewer if some are padding. Where a fold has none, nothing can be
        chosen, and the prediction is the mean.
    regularization
        The strengths to choose from.
    """

    def __init__(
        self, source: Folds, n_rows: Sequence[int | torch.Tensor], regularization: Regularization
    ) -> None:
        first, second, whole = source
        self.regularization = regularization
        self.n_rows = [torch.as_tensor(n, device=whole.device).reshape(-1) for n in n_rows]
        n_all = int((self.n_rows[0] + self.n_rows[1]).max())
        tiny = max(n_all, whole.shape[-1]) * torch.finfo(whole.dtype).eps
        svds = [svd(x) for x in (first, second)]
        largest = torch.maximum(svds[0][1][:, :1], svds[1][1][:, :1]).clamp(min=tiny)
        self.strengths = largest * torch.as_tensor(regularization.strengths).to(whole)
        self.halves = []
        for (u, s, vh), other in zip(svds, (second, first), strict=True):
            s = torch.where(s > tiny, s, 0.0)
            a = other @ vh.mT
            if regularization.kind == "cutoff":
                a *= torch.where(s > 0, 1 / s, 0.0)[:, None, :]
            self.halves.append((u, s, a, a.mT @ a))
        self.u, self.s, self.vh = svd(whole)

    def losses(self, targets: Folds, widths: list[int]) -> torch.Tensor:
        """(batch, n_models, n_strengths) cross-validated error of targets side by side."""
        cutoff = self.regularization.kind == "cutoff"
        loss = self._cutoff_loss if cutoff else self._tikhonov_loss
        one, other = self.halves
        first, second, _ = targets
        n, n_other = self.n_rows
        return loss(one, first, second, n_other, widths) + loss(other, second, first, n, widths)

    def _cutoff_loss(self, half, y, y_other, n, widths) -> torch.Tensor:
        """Root mean square over the rows of the other fold, averaged over a target's columns."""
        u, s, a, gram = half
        b = u.mT @ y
        # twice the part below the diagonal, once the diagonal
        lower = 2 * torch.tril(gram) - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
        step = b * torch.baddbmm(a.mT @ y_other, lower, b, beta=-2)
        squares = torch.cat([y_other.square().sum(dim=1, keepdim=True), step], dim=1)
        norms = torch.cumsum(squares, dim=1).clamp_(min=0).sqrt_()
        loss = torch.stack([x.mean(dim=-1) for x in norms.split(widths, dim=-1)], dim=1)
        ranks = (s[:, None, :] > self.strengths[:, :, None]).sum(-1)
        loss = torch.gather(loss, 2, ranks[:, None].expand(-1, len(widths), -1))
        return loss / n.clamp(min=1)[:, None, None] ** 0.5

    def _tikhonov_loss(self, half, y, y_other, n, widths) -> torch.Tensor:
        """Squared residual of the other fold over all rows and columns of a target."""
        u, s, a, gram = half
        b = u.mT @ y
        f = self.regularization.inverse(s[:, None], self.strengths[:, :, None])
        linear = b * (a.mT @ y_other)
        losses = []
        for own, product, goal in zip(
            *(x.split(widths, dim=-1) for x in (b, linear, y_other)), strict=True
        ):
            quadratic = ((f @ (gram * (own @ own.mT))) * f).sum(-1)
            change = quadratic - 2 * (f @ product.sum(-1, keepdim=True))[..., 0]
            losses.append(goal.square().sum(dim=(1, 2))[:, None] + change)
        return torch.stack(losses, dim=1)

    def inverses(self, targets: Folds, widths: list[int]) -> torch.Tensor:
        """(batch, n_models, rank) regularized reciprocals of the singular values."""
        # the first of equal losses, as scikit-matter takes it
        best = torch.argmin(self.losses(targets, widths), dim=-1)
        strength = torch.gather(self.strengths, 1, best)
        inverse = self.regularization.inverse(self.s[:, None], strength[..., None])
        nothing_to_choose_by = torch.minimum(*self.n_rows) == 0
        return torch.where(nothing_to_choose_by[:, None, None], 0.0, inverse)

    def fit(self, target: Folds) -> torch.Tensor:
        """(batch, width, n_columns) weights of the map to one target."""
        inverse = self.inverses(target, [target[2].shape[-1]])
        return self.vh.mT @ (inverse.mT * (self.u.mT @ target[2]))

    def predict(self, x: torch.Tensor, targets: Folds, widths: list[int]) -> list[torch.Tensor]:
        """(batch, n_columns) image of one point of each problem, for every target side by side.

        From left to right no product of two matrices is left.
        """
        inverse = self.inverses(targets, widths)
        shares = ((x[:, None] @ self.vh.mT) * inverse) @ self.u.mT
        parts = targets[2].split(widths, dim=-1)
        return [(shares[:, i : i + 1] @ y)[:, 0] for i, y in enumerate(parts)]


def svd(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Thin singular value decomposition; wide matrices are transposed, which is twice as fast."""
    if x.shape[-2] < x.shape[-1]:
        v, s, uh = torch.linalg.svd(x.mT, full_matrices=False)
        return uh.mT, s, v.mT
    return torch.linalg.svd(x, full_matrices=False)
