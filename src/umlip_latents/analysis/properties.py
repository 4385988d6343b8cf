"""Properties of latent features: element share, invariance, retention."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from ase import Atoms

from ..features.extraction import extract_features
from ..features.table import Features, common_structures
from ..measures.comparison import Comparison
from ..measures.preprocess import subtract_element_means, varies
from ..models.base import LatentModel
from ..resources import InputError


def element_share(features: np.ndarray, numbers: np.ndarray) -> float:
    r"""Share of the total variance that the mean of each element explains.

    .. math:: 1 - \sum_i \|\phi_i - \bar\phi_{Z_i}\|^2 \big/ \sum_i \|\phi_i - \bar\phi\|^2

    Parameters
    ----------
    features
        (n_atoms, d).
    numbers
        (n_atoms,) atomic numbers.

    Examples
    --------
    >>> round(element_share([[0.0], [2.0], [7.0], [9.0]], [1, 1, 8, 8]), 3)
    0.925
    """
    x = np.asarray(features, dtype=np.float64)
    within = subtract_element_means(x, np.asarray(numbers), np.arange(len(x)))
    return float(1 - np.square(within).sum() / np.square(x - x.mean(axis=0)).sum())


def varying(
    features: Mapping[str, Features], *, within_element: bool = False
) -> dict[str, Features]:
    """The features that vary over the structures which all accept; only these can be compared.

    Parameters
    ----------
    features
        By name, of the same structures.
    within_element
        They have to vary between the atoms of one element.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from umlip_latents import features_by_name
    >>> found, _ = features_by_name([bulk("NaCl", "rocksalt", a=5.64)], ["element"], progress=False)
    >>> list(varying(found)), list(varying(found, within_element=True))
    (['element'], [])
    """
    common = common_structures([*features.values()]) if features else ()
    found = {}
    for name, one in zip(features, common, strict=True):
        x = one.features
        if varies(subtract_element_means(x, one.numbers, slice(None)) if within_element else x):
            found[name] = one
    return found


def extreme_share(features: np.ndarray, share: float = 0.01) -> float:
    """Share of the variance that the atoms farthest from the mean carry.

    Where it is large, a reconstruction error to these features tells of those atoms alone.

    Parameters
    ----------
    features
        (n_atoms, width).
    share
        Of the atoms that count as far; at least one does.

    Examples
    --------
    >>> extreme_share(np.array([[-1.0], [1.0], [-1.0], [1.0]]), 0.5)
    0.5
    >>> bool(extreme_share(np.r_[np.zeros((99, 1)), [[1.0]]]) > 0.9)
    True
    """
    x = np.asarray(features, dtype=np.float64)
    distances = np.sort(np.square(x - x.mean(axis=0)).sum(axis=1))
    return float(distances[-max(1, round(share * len(x))) :].sum() / distances.sum())


def invariance_deviations(model: LatentModel, structures: Sequence[Atoms]) -> dict[str, float]:
    """Largest deviation of the backbone features under operations that must not change them.

    Rotation, shift and order are random, the same in every call.

    Parameters
    ----------
    model
        The model to test.
    structures
        Structures that the model accepts; they are repeated where they are periodic.

    Returns
    -------
    dict
        For ``rotation``, ``translation``, ``permutation`` and ``2x2x2 supercell`` the largest
        absolute deviation over the largest absolute feature.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from umlip_latents import load_model
    >>> max(invariance_deviations(load_model("element"), [bulk("Cu")]).values())
    0.0
    """
    rng, n = np.random.default_rng(0), 0
    marked = [atoms.copy() for atoms in structures]
    for atoms in marked:  # the row of its features follows an atom through all changes
        atoms.set_array("row", np.arange(n, n + len(atoms)))
        n += len(atoms)
    changed = {
        "rotation": [rotated(atoms, rng) for atoms in marked],
        "translation": [translated(atoms, rng) for atoms in marked],
        "permutation": [atoms[rng.permutation(len(atoms))] for atoms in marked],
        "2x2x2 supercell": [atoms.repeat(1 + atoms.pbc) for atoms in marked],
    }
    # all at once, since a model in an environment of its own takes long to start
    together = [*structures, *chain(*changed.values())]
    reference, found = np.split(extract_features(together, model, progress=False).features, [n])
    deviations = {}
    for name, copies in changed.items():
        expected = reference[np.concatenate([atoms.arrays["row"] for atoms in copies])]
        own, found = np.split(found, [len(expected)])
        deviations[name] = float(np.abs(own - expected).max() / np.abs(reference).max())
    return deviations


def rotated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure and its cell under a random rotation."""
    turned = atoms.copy()
    turned.rotate(rng.uniform(30, 330), rng.normal(size=3), rotate_cell=True)
    return turned


def translated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure shifted by a random vector, and wrapped back where it is periodic."""
    shifted = atoms.copy()
    shifted.translate(rng.uniform(-5, 5, 3))
    shifted.wrap()
    return shifted


def pretraining_retention(comparison: Comparison, bespoke: Sequence[str]) -> pd.DataFrame:
    r"""How much of its pretraining a fine-tuned model keeps.

    .. math:: 1 - \mathrm{GFRE}(\mathrm{pretrained} \to \mathrm{tuned}) \big/
                  \mathrm{GFRE}(\mathrm{pretrained} \to \mathrm{bespoke})

    1: the tuned features are a linear map of the pretrained ones; 0: they are as far away as those
    of a network that never saw the pretraining data.

    Parameters
    ----------
    comparison
        Of all of them, GFREs among its metrics; the start has the name ``pretrained``.
    bespoke
        Names of the networks trained from scratch, two at least. One of them is itself measured
        against the others, which gives the floor.

    Returns
    -------
    pandas.DataFrame
        By model: ``retention``, the median over splits and bespoke networks, and the smallest and
        the largest of them, ``low`` and ``high``.

    Raises
    ------
    InputError
        Fewer than two bespoke networks, or one without an error from the pretrained one.

    Examples
    --------
    >>> from umlip_latents import Features, compare
    >>> rng = np.random.default_rng(0)
    >>> names = ("pretrained", "tuned", "bespoke 0", "bespoke 1")
    >>> tables = {n: rng.normal(size=(300, 4)) for n in names}
    >>> tables["tuned"] = 2 * tables["pretrained"]
    >>> about = np.full(60, 5), np.full(300, 14), np.arange(60)
    >>> found = compare({n: Features(x, *about) for n, x in tables.items()}, n_splits=3)
    >>> pretraining_retention(found, ["bespoke 0", "bespoke 1"]).loc["tuned"].round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    errors = comparison.by_split.query("metric == 'gfre' and source == 'pretrained'")
    start = errors.pivot(index="split", columns="target", values="error")
    if len({*bespoke}) < 2 or not {*bespoke} <= {*start.columns}:
        raise InputError(f"{[*bespoke]}: retention needs GFREs from pretrained to two or more.")
    rows = {}
    for name in start.columns:
        values = 1 - start[[name]].to_numpy() / start[[b for b in bespoke if b != name]].to_numpy()
        rows[name] = {"retention": np.median(values), "low": values.min(), "high": values.max()}
    return pd.DataFrame(rows).T.rename_axis("run")
