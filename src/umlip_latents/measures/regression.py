"""The linear map behind all reconstruction errors, from one source to many targets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from sklearn.model_selection import KFold
from torch import Tensor

from ..resources import InputError, check_at_least, torch_device
from .parallel import count_jobs

FOLD_SEED = 0x5F3759DF  # of skmatter.metrics

Sizes = Sequence[int]


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

    def inverse(self, s: Tensor, strength: Tensor) -> Tensor:
        """Regularized reciprocal of singular values."""
        if self.kind == "cutoff":
            return torch.where(s > strength, 1 / s, 0.0)
        return torch.where(s > 0, s / (s**2 + strength**2), 0.0)

    def choose_inverses(
        self, source: Tensor, targets: Tensor, sizes: Sizes, widths: Sizes, n_samples: Sizes
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Pseudo-inverses of a source, regularised for each target by two-fold cross-validation.

        With the singular values :math:`s_j` and vectors :math:`u_j, v_j` of one fold, a map
        predicts the other fold as :math:`\sum_j f_j a_j b_j^T`, :math:`a_j = X' v_j`,
        :math:`b_j = Y^T u_j`, with :math:`f_j` the regularized :math:`1/s_j`: one factorisation
        serves all strengths.

        Parameters
        ----------
        source
            (..., n_rows, width), first the rows of one fold, then those of the other; what comes
            before counts separate problems.
        targets
            (..., n_rows, n_columns), those of all targets side by side.
        sizes
            Rows of each fold.
        widths
            Columns of each target.
        n_samples
            Of each fold: more than its rows if these are factors.

        Returns
        -------
        u, f, vh : torch.Tensor
            The map to the i-th target y is ``vh.mT @ (f[..., i, :, None] * (u.mT @ y))``.

        Examples
        --------
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> u, f, vh = CUTOFF.choose_inverses(x, 2 * x, [2, 2], [2], [2, 2])
        >>> (vh.mT @ (f[0, :, None] * (u.mT @ (2 * x)))).round(decimals=6).abs().tolist()
        [[2.0, 0.0], [0.0, 2.0]]
        """
        tiny = max(sum(n_samples), source.shape[-1]) * torch.finfo(source.dtype).eps
        xs, ys = source.split([*sizes], dim=-2), targets.split([*sizes], dim=-2)
        svds = [torch.linalg.svd(x, full_matrices=False) for x in xs]
        largest = torch.maximum(*(s[..., :1] for _, s, _ in svds)).clamp(min=tiny)
        strengths = largest * torch.as_tensor(self.strengths).to(largest)
        compute_losses = cutoff_losses if self.kind == "cutoff" else ridge_losses
        losses = 0
        for (u, s, vh), own, other in zip(svds, (0, 1), (1, 0), strict=True):
            s = torch.where(s > tiny, s, 0.0)
            f = self.inverse(s[..., None, :], strengths[..., None])
            a, b = xs[other] @ vh.mT, u.mT @ ys[own]
            losses += compute_losses(f, a, b, ys[other], widths, n_samples[other])
        u, s, vh = torch.linalg.svd(source, full_matrices=False)
        # the first of equal losses, as scikit-matter takes it
        best = strengths[..., None, :].take_along_dim(losses.argmin(dim=-1, keepdim=True), dim=-1)
        return u, self.inverse(s[..., None, :], best), vh


CUTOFF = Regularization("cutoff", tuple(np.geomspace(1e-9, 0.9, 20)))
TIKHONOV = Regularization("tikhonov", (*np.geomspace(1e-6, 1, 19), np.inf))


@dataclass(frozen=True)
class FitOptions:
    """How the maps behind the errors are fitted, and where.

    Attributes
    ----------
    regularization
        Of the maps; by default `CUTOFF`, that of `skmatter.metrics`, for folds by atom, and
        `TIKHONOV` for folds by group.
    n_local_points
        LFRE: neighbours of a local map; by default as many as the smaller of the two widths, or
        all training atoms where they are fewer.
    device
        Where the linear algebra runs, as PyTorch names it; ``"auto"`` is a GPU if there is one.
    n_jobs
        Tasks at a time: sources, for the LFRE also parts of the test atoms. By default all cores,
        or what `joblib.parallel_config` says.
    progress
        Show progress bars.
    involving
        Names, or ordered pairs (source, target): only the pairs that a name of these is part of,
        and these pairs, are worked out, all others stay NaN. The measures on the test atoms alone
        know all pairs.
    folds
        Of `compare`. ``"group"``: the folds that choose the regularisation keep together what the
        split does; ``"atom"``: those of `skmatter.metrics`. By default they follow the split.
    n_test_local
        Of `compare`: test atoms that the LFRE takes of each split; by default all.

    Raises
    ------
    InputError
        Unknown folds, or a number out of range.
    """

    regularization: Regularization | None = None
    n_local_points: int | None = None
    device: str | torch.device = "auto"
    n_jobs: int | None = None
    progress: bool = False
    involving: Sequence[str | tuple[str, str]] | None = None
    folds: str | None = None
    n_test_local: int | None = None

    def __post_init__(self) -> None:
        if self.folds not in (None, "atom", "group"):
            raise InputError(f"folds by {self.folds}: atom and group are known.")
        check_at_least(1, n_local_points=self.n_local_points, n_test_local=self.n_test_local)

    def pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The ordered pairs of some names that are asked for."""
        among = {*(self.involving or names)}
        pairs = [pair for pair in product(names, names) if {*pair, pair} & among]
        if not pairs:
            words = ", ".join(map(str, self.involving))
            raise InputError(f"involving {words}: none of these is compared.")
        return pairs

    def resolve(self, groups: np.ndarray | None) -> "FitOptions":
        """The same with nothing left open: regularisation, device and number of tasks at a time."""
        device, rules = torch_device(self.device), CUTOFF if groups is None else TIKHONOV
        found = {"regularization": self.regularization or rules, "device": device}
        return replace(self, n_jobs=count_jobs(self.n_jobs, device), **found)


def two_folds(
    n: int, groups: np.ndarray | None = None, *, shuffle: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of n samples, drawn one by one or group by group.

    Parameters
    ----------
    n
        Number of samples.
    groups
        (n,) labels: samples of one label, such as the atoms of one structure, stay together. The
        groups go, largest first, to the half that has fewer samples so far. Without labels the
        halves are those of `skmatter.metrics`.
    shuffle
        Draw the order of equally large groups; otherwise the smaller label goes first.

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
        words = "need training atoms of at least two groups: more structures, or folds by atom"
        raise InputError(f"Folds by group {words}.")
    order = np.arange(len(sizes))
    if shuffle:
        order = np.random.default_rng(FOLD_SEED).permutation(order)
    loads, side = [0, 0], np.empty(len(sizes), dtype=int)
    for i in order[np.argsort(-sizes[order], kind="stable")]:
        side[i] = loads[1] < loads[0]
        loads[side[i]] += sizes[i]
    return np.flatnonzero(side[group] == 0), np.flatnonzero(side[group] == 1)


def cutoff_losses(f: Tensor, a: Tensor, b: Tensor, y: Tensor, widths: Sizes, n: int) -> Tensor:
    r"""(..., n_targets, n_strengths) root mean square over n rows, a mean over columns.

    That of `skmatter.linear_model.Ridge2FoldCV`. A cutoff keeps the first r terms, and with
    :math:`\hat a_j = a_j / s_j` the squared residual of each column changes with the r-th by
    :math:`-2 b_r (\hat a_r^T y - \sum_{j<r} \hat a_r^T \hat a_j b_j) + \hat a_r^T \hat a_r b_r^2`:
    the loss at every cutoff follows from one cumulative sum.
    """
    a = a * f.amax(dim=-2, keepdim=True)
    gram = a.mT @ a
    lower = gram.tril() + gram.tril(-1)  # twice what is below, once the diagonal
    steps = b * (lower @ b - 2 * a.mT @ y)
    squares = torch.cat([y.square().sum(dim=-2, keepdim=True), steps], dim=-2).cumsum(dim=-2)
    ranks = (f > 0).sum(dim=-1)[..., None]
    rms = (squares.take_along_dim(ranks, dim=-2).clamp(min=0) / n).sqrt()
    return torch.stack([part.mean(dim=-1) for part in rms.split(widths, dim=-1)], dim=-2)


def ridge_losses(f: Tensor, a: Tensor, b: Tensor, y: Tensor, widths: Sizes, n: int) -> Tensor:
    r"""(..., n_targets, n_strengths) squared residuals over all rows and columns of a target.

    A quadratic form in f: :math:`\|Y\|^2 - 2 \sum_j f_j\, a_j^T Y b_j
    + \sum_{jl} f_j f_l\, (a_j^T a_l)(b_j^T b_l)`.
    """
    gram, linear, losses = a.mT @ a, b * (a.mT @ y), []
    for own, part, goal in zip(*(x.split(widths, dim=-1) for x in (b, linear, y)), strict=True):
        quadratic = (f @ (gram * (own @ own.mT)) * f).sum(dim=-1)
        crossed = (f @ part.sum(dim=-1, keepdim=True))[..., 0]
        losses.append(quadratic - 2 * crossed + goal.square().sum(dim=(-2, -1))[..., None])
    return torch.stack(losses, dim=-2)
