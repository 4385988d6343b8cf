r"""The maps of the GFRE: a source for all targets.

A linear map and its error depend on the training atoms only through what their features look like
from the axes of the source. The rows of each fold are therefore turned so that these axes come
first, and the regularisation is chosen on the few rows left.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd
import torch
from sklearn.kernel_approximation import Nystroem
from torch.nn.functional import pad

from .neighbours import median_distance
from .parallel import run_tasks
from .preprocess import standardize
from .regression import Regularization, choose_inverses

DIGITS = 1e-3  # a difference of squares below this share has lost three digits
LANDMARKS = 300  # training atoms that span the features of a kernel

Tables = Mapping[str, np.ndarray]  # features by name
Pair = tuple[str, str]  # source and target
Rows = Sequence[torch.Tensor]  # (n_rows, width) of each part of the atoms
Pairwise = dict[Pair, np.ndarray]  # (n_kinds, n_test) norms


def global_residuals(
    sizes: Sequence[int],
    source: np.ndarray,
    *targets: np.ndarray,
    regularization: Regularization,
    n_samples: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    distortion: bool = False,
) -> np.ndarray:
    """What linear maps from one source miss of each target, for every test row.

    Parameters
    ----------
    sizes
        Rows of the tables in the first fold, in the second, and in the test, in this order.
    source
        (n_rows, width) standardised features, or the factors that stand in for them.
    targets
        The same.
    regularization
        Chosen for each target by the two folds.
    n_samples
        Atoms of the two folds, where factors stand in for them.
    device
        Where the linear algebra runs.
    distortion
        Instead: what the best rotation of the source misses of its image under the map.

    Returns
    -------
    numpy.ndarray
        (1, n_targets, n_test) norms.

    Examples
    --------
    >>> x, how = np.random.default_rng(0).normal(size=(30, 2)), Regularization("cutoff", (1e-9,))
    >>> missed = global_residuals((10, 10, 10), x, 3 * x, regularization=how)
    >>> bool(missed.max() < 1e-9)
    True
    """
    x, *ys = (torch.as_tensor(t, device=device).split([*sizes]) for t in (source, *targets))
    norms, of_both = [], torch.cat(x[:2])
    for weights, y in zip(fit_maps(x, ys, regularization, n_samples or sizes[:2]), ys, strict=True):
        missed = y[2] - x[2] @ weights
        if distortion:
            missed = x[2] @ subtract_rotation(weights, of_both)
        norms.append(missed.norm(dim=1))
    return torch.stack(norms)[None].cpu().numpy()


def fit_maps(x: Rows, ys: Sequence[Rows], how: Regularization, n_samples: Sequence[int]) -> Rows:
    """(width, width of y) maps from a source to each target, by the rows of their two folds.

    What comes after these rows, such as those of the test, is not looked at. The number of samples
    of each fold is larger than that of its rows where factors stand in for atoms.
    """
    axes, own = zip(*map(torch.linalg.qr, x[:2]), strict=True)
    own = torch.cat([pad(r, (0, 0, 0, 1)) for r in own])  # nothing is left of the source
    # of the folds alone: there are axes for no more
    turned = [torch.cat([*map(project_onto, axes, y[:2])]) for y in ys]
    rows, widths = [1 + q.shape[1] for q in axes], [y.shape[1] for y in turned]
    u, inverses, vh = choose_inverses(own, torch.cat(turned, dim=1), rows, widths, how, n_samples)
    columns = zip(inverses, turned, strict=True)
    return [vh.mT @ (f[:, None] * (u.mT @ y)) for f, y in columns]


def project_onto(axes: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(n_axes + 1, width) columns turned so that the axes come first, and what is left of each.

    What is left is the difference from their squared lengths, or where that would lose digits, the
    length of what the axes miss.
    """
    first, squares = axes.mT @ columns, columns.square().sum(dim=0)
    left = squares - first.square().sum(dim=0)
    near = left < DIGITS * squares
    left[near] = (columns[:, near] - axes @ first[:, near]).square().sum(dim=0)
    return torch.cat([first, left.sqrt()[None]])


def subtract_rotation(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A map less the rotation that is nearest to it on some features, both padded with zeros."""
    missing = x.shape[1] - weights.shape[1]
    square = pad(weights, (0, max(missing, 0), 0, max(-missing, 0)))
    wide = pad(x, (0, max(-missing, 0)))
    u, _, vh = torch.linalg.svd(wide.mT @ wide @ square)
    return (square - u @ vh)[: x.shape[1]]


def kernel_features(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    r"""Features in which a linear map is kernel ridge regression on the given ones.

    The kernel has a straight and a bent part, :math:`x \cdot x' + \exp(-|x - x'|^2 / 2\sigma^2)`,
    for features of unit total variance and with the median of the distances between training atoms
    as :math:`\sigma`. The bent part is in the Nyström approximation.

    Parameters
    ----------
    features
        (n_atoms, width).
    train
        Indices of the training atoms, of which up to `LANDMARKS` span the bent part. With no more
        training atoms than that, the regression is exact.

    Returns
    -------
    numpy.ndarray
        (n_atoms, width + LANDMARKS), or fewer columns for fewer training atoms.

    Examples
    --------
    >>> kernel_features(np.random.default_rng(0).normal(size=(40, 2)), np.arange(30)).shape
    (40, 32)
    """
    x = standardize(features, train, "source")
    gamma = 1 / (2 * median_distance(x[train]) ** 2)
    count = min(LANDMARKS, len(train))
    bent = Nystroem(gamma=gamma, n_components=count, random_state=0).fit(x[train])
    return np.hstack([x, bent.transform(x)])


def global_tasks(
    sources: Tables, targets: Tables, pairs: Iterable[Pair], sizes: Sequence[int]
) -> Iterator[tuple[list[Pair], tuple]]:
    """Pairs, in the order of their sources, and the arguments of `global_residuals`."""
    for source, some in groupby(pairs, itemgetter(0)):
        some = list(some)
        yield some, (sizes, sources[source], *(targets[target] for _, target in some))


def fit_pairs(
    function: Callable, tasks: Iterable[tuple], n_jobs: int, progress: str = ""
) -> Pairwise:
    """Run tasks, each of some pairs and arguments.

    The function gives (n_kinds, n_pairs, n) of every task; tasks of the same pairs follow on.
    """
    all_pairs, arguments = zip(*tasks, strict=True)
    parts = defaultdict(list)
    results = run_tasks(function, arguments, n_jobs, progress)
    for pairs, norms in zip(all_pairs, results, strict=True):
        for pair, part in zip(pairs, norms.swapaxes(0, 1), strict=True):
            parts[pair].append(part)
    return {pair: np.concatenate(each, axis=1) for pair, each in parts.items()}


def error_matrix(errors: Pairwise, names: Sequence[str], n_test: int) -> pd.DataFrame:
    """Root mean squares over the test atoms, NaN for other pairs: row = source, column = target."""
    means = {pair: np.linalg.norm(norms[0]) / n_test**0.5 for pair, norms in errors.items()}
    return pd.Series(means).unstack().reindex(names, columns=names).rename_axis("source")
