"""Properties of latent features: element share, dimension, invariance, retention, maps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from skmatter.decomposition import PCovR

from .comparing import constant
from .comparison import Comparison
from .extraction import extract_features
from .features import Features, common_structures
from .models.base import LatentModel
from .reconstruction import subtract_element_means
from .resources import InputError
from .structures import composition


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
    found = {}
    common = common_structures(list(features.values())) if features else []
    for name, one in zip(features, common, strict=True):
        x, everyone = one.features, np.arange(len(one.features))
        if within_element:
            x = subtract_element_means(x, one.numbers, everyone)
        if not constant(x, name):
            found[name] = one
    return found


def effective_dimension(features: np.ndarray, share: float) -> int:
    """Number of principal components that hold `share` of the total variance.

    Parameters
    ----------
    features
        (n_atoms, d).
    share
        Between 0 and 1.

    Examples
    --------
    >>> effective_dimension(np.diag([3.0, 1.0, 0.01]), 0.99)
    2
    """
    x = np.asarray(features, dtype=np.float64)
    variances = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1


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
    rng = np.random.default_rng(0)
    n_atoms = [len(a) for a in structures]
    rows = np.split(np.arange(sum(n_atoms)), np.cumsum(n_atoms)[:-1])
    orders = [rng.permutation(len(a)) for a in structures]
    # the changed structures, and for each of them the rows of the reference that they must have
    cases = {
        "rotation": ([rotated(a, rng) for a in structures], rows),
        "translation": ([translated(a, rng) for a in structures], rows),
        "permutation": (
            [a[order] for a, order in zip(structures, orders, strict=True)],
            [r[order] for r, order in zip(rows, orders, strict=True)],
        ),
        "2x2x2 supercell": (
            [a.repeat(1 + a.pbc) for a in structures],
            [np.tile(r, 2 ** a.pbc.sum()) for r, a in zip(rows, structures, strict=True)],
        ),
    }
    # all at once, since a model in an environment of its own takes long to start
    together = [*structures, *(a for changed, _ in cases.values() for a in changed)]
    found = extract_features(together, model, progress=False).features
    reference, rest = np.split(found, [sum(n_atoms)])
    deviations = {}
    for name, (_, expected) in cases.items():
        wanted = reference[np.concatenate(expected)]
        changed, rest = np.split(rest, [len(wanted)])
        deviations[name] = float(np.abs(changed - wanted).max() / np.abs(reference).max())
    return deviations


def rotated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure and its cell under a random rotation."""
    rotation = Rotation.random(None, rng)
    turned = atoms.copy()
    turned.set_cell(rotation.apply(atoms.cell.array))
    turned.positions = rotation.apply(atoms.positions)
    return turned


def translated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure shifted by a random vector, and wrapped back where it is periodic."""
    shifted = atoms.copy()
    shifted.positions += rng.uniform(-5, 5, 3)
    if shifted.pbc.any():
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
        Fewer than two bespoke networks, or one that is not compared with the pretrained one.

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
    missing = {*bespoke} - {*start.columns}
    if missing or len(bespoke) < 2:
        raise InputError(f"Retention needs pretrained and two bespoke networks; no {missing}.")
    rows = {}
    for name in start.columns:
        yardsticks = [b for b in bespoke if b != name]
        values = 1 - start[name].to_numpy()[:, None] / start[yardsticks].to_numpy()
        rows[name] = {"retention": np.median(values), "low": values.min(), "high": values.max()}
    return pd.DataFrame(rows).T.rename_axis("run")


def pcovr_map(features: np.ndarray, target: np.ndarray, *, mixing: float = 0.5) -> np.ndarray:
    """Principal covariates regression, a projection between PCA and regression.

    scikit-matter's `PCovR` (Helfrecht et al., Mach. Learn.: Sci. Technol. 1, 045021, 2020) on
    standardised columns.

    Parameters
    ----------
    features
        (n_structures, d); constant columns are left out.
    target
        (n_structures,) or (n_structures, n_targets), the property to keep.
    mixing
        1 is PCA, 0 is ridge regression.

    Returns
    -------
    numpy.ndarray
        (n_structures, 2). Signs are fixed by the largest coordinate being positive.

    Raises
    ------
    InputError
        Fewer than two features vary.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> pcovr_map(x, x[:, 0]).shape
    (50, 2)
    """
    x = np.asarray(features, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64).reshape(len(x), -1)
    x = x[:, x.std(axis=0) > 1e-10]
    if x.shape[1] < 2:
        raise InputError("A map needs at least two features that vary.")
    x, y = StandardScaler().fit_transform(x), StandardScaler().fit_transform(y)
    regressor = Ridge(alpha=1e-4, fit_intercept=False, solver="svd")
    pcovr = PCovR(mixing=mixing, n_components=2, regressor=regressor, svd_solver="full")
    points = pcovr.fit(x, y).transform(x)
    largest = np.abs(points).argmax(axis=0)
    return points * np.sign(points[largest, [0, 1]])


def structure_property(structures: Sequence[Atoms]) -> tuple[np.ndarray, str]:
    """A physical property that any structures have, and what it is.

    Parameters
    ----------
    structures
        Labelled or not.

    Returns
    -------
    values : numpy.ndarray
        (n_structures,). If every structure carries an energy, this one in eV per atom above the
        least-squares energy of its elements; otherwise the mean distance in angstrom from an atom
        to its nearest neighbour.
    name : str
        With its unit.

    Examples
    --------
    >>> from ase.build import bulk
    >>> values, name = structure_property([bulk("Cu", a=3.6), bulk("Si", a=5.4)])
    >>> values.round(2).tolist(), name
    ([2.55, 2.34], 'distance to the nearest neighbour (Å)')
    """
    if all(a.calc is not None and "energy" in a.calc.results for a in structures):
        shares = composition(structures)
        energies = np.array([a.get_potential_energy() / len(a) for a in structures])
        above = energies - shares @ np.linalg.lstsq(shares, energies, rcond=None)[0]
        return above, "energy above its elements (eV/atom)"
    return nearest_distances(structures), "distance to the nearest neighbour (Å)"


def nearest_distances(structures: Sequence[Atoms]) -> np.ndarray:
    """(n_structures,) mean distance in Å from an atom to its nearest neighbour, 6 if it has none.

    Examples
    --------
    >>> nearest_distances([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), Atoms("H")]).tolist()
    [0.7, 6.0]
    """
    distances = []
    for atoms in structures:
        centre, distance = neighbor_list("id", atoms, 6.0)
        nearest = np.full(len(atoms), 6.0)
        np.minimum.at(nearest, centre, distance)
        distances.append(nearest.mean())
    return np.array(distances)
