"""Features that come with the package: a file per data set, model and layer in `data/features`.

Half precision is enough: each column is centred and scaled first, and global errors move by less
than 0.0005. Local ones move by up to 0.02 where neighbours tie, as they do from one machine to
another. The bytes of equal weight stand together, which zip makes much shorter.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..models.base import Readout
from ..resources import DATA, InputError, atomic_write, registry
from .table import ARRAYS, TEXTS, Features, read_arrays

FOLDER = DATA / "features"
# beginnings of the names of models whose last layer is the backbone
SAME = ("nequix-", "m3gnet-mp-2018-eform", "soap", "element", "symmetry-functions")


def shipped_file(dataset: str, model: str, layer: str) -> Path:
    """Where the features of a model on a registered data set are, or would be.

    A model whose last layer is its backbone (`SAME`) has one file for both.
    """
    layer = "backbone" if model.startswith(SAME) else layer
    return FOLDER / dataset / f"{model}-{layer}.npz"


def shipped_models(dataset: str, layer: str = "backbone") -> list[str]:
    """Names of the models whose features of a data set come with the package.

    Examples
    --------
    >>> "chgnet-0.3.0" in shipped_models("alexandria-random-1k")
    True
    """
    folder = FOLDER / dataset
    files = folder.glob("*.npz") if any(folder.glob(f"*-{layer}.npz")) else ()
    names = {p.stem.removesuffix("-backbone").removesuffix("-last") for p in files}
    return sorted(name for name in names if shipped_file(dataset, name, layer).is_file())


def write_shipped(
    path: Path, features: Features, about: Mapping[str, Any], *, half: bool = True
) -> None:
    """Write features in half precision, centred and scaled, or in single precision as they are.

    Parameters
    ----------
    path
        See `shipped_file`.
    features
        Of one layer.
    about
        Where they come from: versions, commit, licence and citation, as JSON can hold them.
    half
        Keep 16 bits of each number instead of 32.
    """
    x = features.features.astype(np.float64)
    mean, scale = (half * of(x, axis=0).astype(np.float32) for of in (np.mean, np.std))
    scale[scale == 0] = 1
    numbers = ((x - mean) / scale).astype("<f2" if half else "<f4")
    planes = numbers.reshape(-1, 1).view(np.uint8).T
    lists = {name: getattr(features, name).astype(np.int32) for name in ARRAYS[1:]}
    texts = {"dropped": json.dumps(features.dropped), "about": json.dumps(about)}
    texts |= {name: getattr(features, name) for name in TEXTS}
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, planes=planes, mean=mean, scale=scale, **lists, **texts)


def read_shipped(dataset: str, model: str, layer: str) -> Features:
    """Features of a model on a registered data set, float32.

    Raises
    ------
    InputError
        There is no such file, or it is damaged.

    Examples
    --------
    >>> found = read_shipped("alexandria-random-1k", "chgnet-0.3.0", "backbone")
    >>> found.features.shape, found.origin
    ((7669, 64), 'ships with the package')
    """
    found = read_arrays(shipped_file(dataset, model, layer))
    planes, mean, scale = (found[name] for name in ("planes", "mean", "scale"))
    numbers = np.ascontiguousarray(planes.T).view(f"<f{len(planes)}").reshape(-1, len(mean))
    found |= {name: found[name].astype(np.int64) for name in ARRAYS[1:]}
    found["features"] = (numbers.astype(np.float64) * scale + mean).astype(np.float32)
    return replace(Features.from_arrays(found, "ships with the package"), layer=layer)


def find_shipped(structures: str, model: str, fingerprint: str, layer: str) -> Features | None:
    """Features of exactly this model and these structures (both by fingerprint), if they ship."""
    for dataset, entry in registry("datasets").items():
        if entry.get("fingerprint") == structures and shipped_file(dataset, model, layer).is_file():
            found = read_shipped(dataset, model, layer)
            return found if fingerprint and found.fingerprint == fingerprint else None
    return None


def read_readout(model: str) -> Readout:
    """How a model reads the energy off its last layer.

    Raises
    ------
    InputError
        None ships.

    Examples
    --------
    >>> read_readout("chgnet-0.3.0").weights.shape
    (64, 1)
    """
    with np.load(FOLDER / "readouts.npz", allow_pickle=False) as data:
        if f"{model}-weights" not in data:
            raise InputError(f"{model}: no readout of it ships.")
        return Readout(*(data[f"{model}-{name}"] for name in Readout._fields))


def read_about(path: Path) -> dict[str, Any]:
    """Where shipped features come from: versions, commit, licence and citation."""
    return json.loads(str(read_arrays(path)["about"]))
