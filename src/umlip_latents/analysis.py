"""Properties of latent features: element share, effective dimension, invariance, retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from ase import Atoms

from .extraction import extract_features
from .models.base import LatentModel
from .reconstruction import reconstruction_matrix, split_atoms
from .resources import InputError


def element_share(features: np.ndarray, numbers: np.ndarray) -> float:
    r"""Share of the total variance that the mean of each element explains.

    .. math:: 1 - \sum_i \|\phi_i - \bar\phi_{Z_i}\|^2 \big/ \sum_i \|\phi_i - \bar\phi\|^2

    Parameters
    ----------
    features
        (n_atoms, d).
    numbers
        (n_atoms,) atomic numbers.
    """
    x = np.asarray(features, dtype=np.float64)
    _, element = np.unique(numbers, return_inverse=True)
    counts = np.bincount(element)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, element, x)
    means /= counts[:, None]
    return float(1 - ((x - means[element]) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def effective_dimension(features: np.ndarray, share: float) -> int:
    """Number of principal components that hold `share` of the total variance."""
    x = np.asarray(features, dtype=np.float64)
    variances = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1


def invariance_deviations(
    model: LatentModel, structures: Sequence[Atoms], *, seed: int = 0
) -> dict[str, float]:
    """Largest deviation of the backbone features under operations that must not change them.

    Parameters
    ----------
    model
        The model to test.
    structures
        Periodic structures that the model accepts.
    seed
        Of the random rotation, shift and order.

    Returns
    -------
    dict
        For ``rotation``, ``translation``, ``permutation`` and ``2x2x2 supercell`` the largest
        absolute deviation over the largest absolute feature.
    """
    rng = np.random.default_rng(seed)
    reference = extract_features(structures, model, progress=False)
    offsets = np.cumsum(reference.n_atoms) - reference.n_atoms
    orders = [rng.permutation(len(a)) for a in structures]
    changed = {
        "rotation": [rotated(a, rng) for a in structures],
        "translation": [translated(a, rng) for a in structures],
        "permutation": [a[order] for a, order in zip(structures, orders, strict=True)],
        "2x2x2 supercell": [a.repeat(2) for a in structures],
    }
    rows = {
        "rotation": np.arange(len(reference.features)),
        "translation": np.arange(len(reference.features)),
        "permutation": np.concatenate(
            [o + start for o, start in zip(orders, offsets, strict=True)]
        ),
        "2x2x2 supercell": np.concatenate(
            [
                np.tile(np.arange(n) + start, 8)
                for n, start in zip(reference.n_atoms, offsets, strict=True)
            ]
        ),
    }
    largest = np.abs(reference.features).max()
    return {
        name: float(
            np.abs(
                extract_features(versions, model, progress=False).features
                - reference.features[rows[name]]
            ).max()
            / largest
        )
        for name, versions in changed.items()
    }


def rotated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure and its cell under a random rotation."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ q.T)
    turned.positions = atoms.positions @ q.T
    return turned


def translated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure shifted by a random vector, and wrapped back where it is periodic."""
    shifted = atoms.copy()
    shifted.positions += rng.uniform(-5, 5, 3)
    if shifted.pbc.any():
        shifted.wrap()
    return shifted


def errors_over_splits(
    features: Mapping[str, np.ndarray],
    n_atoms: np.ndarray,
    n_test: int,
    metric: str = "gfre",
    *,
    n_splits: int = 5,
) -> pd.DataFrame:
    """Reconstruction errors of all ordered pairs for several random splits by structure.

    Parameters
    ----------
    features
        Name to (n_atoms, width).
    n_atoms
        (n_groups,) atoms of each structure, or of each group of structures that stays together.
    n_test
        Test atoms of a split.
    metric
        ``"gfre"`` or ``"lfre"``.
    n_splits
        Seeds 0 to n_splits - 1.

    Returns
    -------
    pandas.DataFrame
        ``split``, ``source``, ``target``, ``value``.
    """
    tables = []
    for seed in range(n_splits):
        train, test = split_atoms(n_atoms, n_test, by="structure", seed=seed)
        matrix = reconstruction_matrix(features, train, test, metric)
        long = matrix.rename_axis(columns="target").stack().rename("value").reset_index()
        tables.append(long.assign(split=seed))
    return pd.concat(tables, ignore_index=True)[["split", "source", "target", "value"]]


def pretraining_retention(
    errors: pd.DataFrame, bespoke: Sequence[str], *, pretrained: str = "pretrained"
) -> pd.DataFrame:
    r"""How much of its pretraining a fine-tuned model keeps.

    .. math:: 1 - \mathrm{GFRE}(\mathrm{pretrained} \to \mathrm{tuned}) \big/
                  \mathrm{GFRE}(\mathrm{pretrained} \to \mathrm{bespoke})

    1: the tuned features are a linear map of the pretrained ones; 0: they are as far away as those
    of a network that never saw the pretraining data.

    Parameters
    ----------
    errors
        As from `errors_over_splits`.
    bespoke
        Names of the networks trained from scratch, two at least. One of them is itself measured
        against the others, which gives the floor.
    pretrained
        Name of the start.

    Returns
    -------
    pandas.DataFrame
        By model: ``retention``, the median over splits and bespoke networks, and the smallest and
        the largest of them, ``low`` and ``high``.
    """
    start = errors[errors["source"] == pretrained].pivot(
        index="split", columns="target", values="value"
    )
    missing = {pretrained, *bespoke} - set(start.columns)
    if missing or len(bespoke) < 2:
        raise InputError(f"Retention needs two bespoke networks and {pretrained}; no {missing}.")
    rows = {}
    for name in start.columns.drop(pretrained):
        yardsticks = [b for b in bespoke if b != name]
        values = 1 - start[name].to_numpy()[:, None] / start[yardsticks].to_numpy()
        rows[name] = {"retention": np.median(values), "low": values.min(), "high": values.max()}
    return pd.DataFrame(rows).T.rename_axis("run")
