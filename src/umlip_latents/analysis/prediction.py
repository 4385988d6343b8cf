"""Structure features at work: ridge and kernel regression of what is labelled, honestly held out.

A property :math:`y` of a structure is predicted from its features :math:`x`, standardised on the
training structures, as

.. math::
    \hat y(x) = b + \sum_i k(x, x_i)\, c_i, \qquad (K + \alpha)\, c = y - b,

with the mean :math:`b` of the training structures and a kernel that is linear,
:math:`k = x \cdot x' / d`, which is ridge regression, or Gaussian,
:math:`k = \exp(-\gamma \|x - x'\|^2 / d)`, for :math:`d` features: scikit-learn's `KernelRidge`.
Inner folds by group choose kernel and strength :math:`\alpha`.

Eight cumulants have eight times as many columns as the mean, and one strength for all of them lets
the many drown the few. A factor :math:`\theta` damps each cumulant against the one before it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from ..measures.comparison import resampled_means
from ..resources import InputError

ALPHAS = np.geomspace(1e-6, 1e4, 11)
KERNELS = ("linear", 0.2)  # or the gamma of a Gaussian one
PLAIN = [(kernel, 1.0) for kernel in KERNELS]
CANDIDATES = [*PLAIN, *((kernel, 0.3) for kernel in KERNELS)]
N_INNER_FOLDS = 3  # that choose
ROUNDING = 1e-6  # of single precision, relative to the size of a column


def group_folds(groups: Sequence, n_folds: int) -> list[tuple[np.ndarray, ...]]:
    """Training and test structures of every fold; no group has structures on both sides.

    Parameters
    ----------
    groups
        (n_structures,) labels.
    n_folds
        Their number; at most that of the groups.

    Raises
    ------
    InputError
        There are fewer than two groups.

    Examples
    --------
    >>> [test.tolist() for _, test in group_folds(["a", "a", "b"], 4)]
    [[2], [0, 1]]
    """
    n_folds = min(n_folds, len(np.unique(groups)))
    if n_folds < 2:
        raise InputError("Folds by group need structures of at least two groups.")
    folds = GroupKFold(n_folds, shuffle=True, random_state=0)
    return list(folds.split(np.zeros(len(groups)), groups=groups))


def predict(
    features: np.ndarray,
    targets: np.ndarray,
    groups: Sequence,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    n_blocks: int = 1,
    shares: np.ndarray | None = None,
    candidates: Sequence[tuple[str | float, float]] = CANDIDATES,
    n_jobs: int | None = None,
) -> np.ndarray:
    r"""Predictions of test structures by maps that were fitted and chosen on the training ones.

    Parameters
    ----------
    features
        (n_structures, d), as from `pooled_features`.
    targets
        (n_structures, n_targets).
    groups
        (n_structures,) labels: the inner folds keep together those of one label.
    splits
        Training and test structures, as from `group_folds`.
    n_blocks
        Blocks of equally many columns side by side, such as the number of cumulants. Those of the
        k-th one count :math:`\theta^{k-1}` times as much as those of the first.
    shares
        (n_structures, n_elements) as from `composition`: a linear map of them, fitted to the
        training structures in the same way, is taken off first and added back at the end, so that
        the features have to tell what the composition does not.
    candidates
        Pairs of a kernel, ``"linear"`` or the :math:`\gamma` of a Gaussian one, and a
        :math:`\theta`. The inner folds choose one of them, and the strength, by the mean absolute
        error, for each target.
    n_jobs
        Splits at a time, as joblib has it.

    Returns
    -------
    numpy.ndarray
        (n_tests, n_targets), the test structures of one split after those of the other.

    Raises
    ------
    InputError
        Columns that are not blocks, or a split that trains on fewer than two groups.
    ValueError
        Of scikit-learn: numbers that are not finite, tables of different lengths.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> splits = group_folds(np.arange(60), 4)
    >>> found = predict(x, x @ np.ones((3, 1)), np.arange(60), splits)
    >>> rows = np.concatenate([test for _, test in splits])
    >>> bool(np.abs(found[:, 0] - x[rows].sum(axis=1)).max() < 1e-3)
    True
    """
    x, y, groups = np.asarray(features, float), np.asarray(targets, float), np.asarray(groups)
    shares = np.zeros((len(y), 1)) if shares is None else shares  # then the mean is taken off
    if x.shape[1] % n_blocks:
        raise InputError(f"{x.shape[1]} columns are not {n_blocks} blocks of equally many.")
    if n_blocks == 1:  # nothing to damp
        candidates = list(dict.fromkeys((kernel, 1.0) for kernel, _ in candidates))
    block = np.arange(x.shape[1]) * n_blocks // x.shape[1]
    weighted = [(kernel, damping**block) for kernel, damping in candidates]

    def predict_split(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        folds = group_folds(groups[train], N_INNER_FOLDS)
        base = choose_and_predict(shares[train], y[train], folds, shares, PLAIN[:1])
        rest = choose_and_predict(x[train], y[train] - base[train], folds, x[test], weighted)
        return base[test] + rest

    return np.concatenate(Parallel(n_jobs)(delayed(predict_split)(*split) for split in splits))


@threadpool_limits.wrap(limits=1)  # small matrices
def choose_and_predict(
    x: np.ndarray, y: np.ndarray, folds: Sequence, new: np.ndarray, candidates: Sequence
) -> np.ndarray:
    """(n_new, n_targets), each target by the candidate and strength that do best in the folds.

    A candidate is a kernel and the weights of the columns.
    """
    # every target once for each strength, since `KernelRidge` takes one for each column
    copies, strengths = np.tile(y, len(ALPHAS)), np.repeat(ALPHAS, y.shape[1])
    errors = np.empty((len(candidates), *copies.shape))
    for error, candidate in zip(errors, candidates, strict=True):
        for train, test in folds:
            found = fit_predict(x[train], copies[train], x[test], candidate, strengths)
            error[test] = np.abs(found - copies[test])
    losses = errors.mean(axis=1).reshape(-1, y.shape[1])
    best, strength = np.divmod(losses.argmin(axis=0), len(ALPHAS))
    predictions = np.empty((len(new), y.shape[1]))
    for i in np.unique(best):
        chosen = best == i
        alphas = ALPHAS[strength[chosen]]
        predictions[:, chosen] = fit_predict(x, y[:, chosen], new, candidates[i], alphas)
    return predictions


def fit_predict(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, candidate: tuple, alphas: np.ndarray
) -> np.ndarray:
    """(n_new, n_targets) by kernel ridge regression, of a strength for each target.

    Columns are standardised, multiplied by their weights, and scaled to a total variance of 1.
    Those that do not vary by more than the rounding of single precision count nothing.
    """
    kernel, weights = candidate
    mean, spread = x.mean(axis=0), x.std(axis=0)
    varies = spread > ROUNDING * np.abs(x).max(axis=0)
    scale = varies * weights / np.where(varies, spread, 1)
    scale /= np.linalg.norm(varies * weights) or 1
    options = {"kernel": "linear"} if kernel == "linear" else {"kernel": "rbf", "gamma": kernel}
    fit = KernelRidge(alpha=alphas, **options).fit((x - mean) * scale, y - y.mean(axis=0))
    return y.mean(axis=0) + fit.predict((new - mean) * scale)


def bootstrap_means(errors: np.ndarray, groups: Sequence, *, n_bootstrap: int = 500) -> np.ndarray:
    """Means over structures, and those of samples in which the groups are drawn anew.

    Errors of one sample of structures get the same draws, so that their ratios and differences have
    intervals of their own, by `comparison.estimate`.

    Parameters
    ----------
    errors
        (n_structures, n_columns), such as absolute errors of several targets.
    groups
        (n_structures,) labels of what is drawn together.
    n_bootstrap
        Number of samples.

    Returns
    -------
    numpy.ndarray
        (1 + n_bootstrap, n_columns), the mean over all first.

    Examples
    --------
    >>> from umlip_latents.measures.comparison import estimate
    >>> errors = np.abs(np.random.default_rng(0).normal(size=(400, 2))) * [1, 2]
    >>> draws = bootstrap_means(errors, np.arange(400))
    >>> ratio = estimate(draws[:, 1] / draws[:, 0])
    >>> ratio.low < 2 < ratio.high
    True
    """
    of_group = pd.DataFrame(errors).groupby(np.asarray(groups))
    sums, sizes = of_group.sum().to_numpy(), of_group.size().to_numpy()
    return resampled_means(sums, sizes, n_bootstrap, np.random.default_rng(0))
