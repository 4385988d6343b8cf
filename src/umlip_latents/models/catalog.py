"""The names: from a name or a file to a model ready for extraction."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..resources import DATA, InputError, check, registry
from .base import LatentModel
from .baselines import ElementModel

# heavy libraries are imported only by the branch that needs them


def list_models() -> dict[str, dict]:
    """The named models: family, training data, functional, widths, licence, citation."""
    return registry("models")


def load_model(source: str | Path, *, trust: bool = False) -> LatentModel:
    """Load a model by its name in the catalogue, or from a file.

    Parameters
    ----------
    source
        A name of `list_models` (an untrained twin takes any seed, ``chgnet-untrained-s7``), a
        MACE in ``.safetensors`` with its JSON card beside it, a CHGNet ``.pth.tar``, or a MACE
        ``.model`` pickled by mace-torch.
    trust
        Allow a pickled file, which may run any code while it loads.

    Raises
    ------
    InputError
        Unknown name, missing file, wrong SHA-256, or a pickled file without `trust`.
    """
    name = str(source)
    twin = re.fullmatch(r"(.+-untrained)-s(\d+)", name)
    if twin and f"{twin[1]}-s0" in list_models():
        return untrained_twin(list_models()[f"{twin[1]}-s0"]["like"], int(twin[2]), name)
    if name in list_models():
        return named(name, list_models()[name])
    path = Path(source)
    if not path.is_file():
        names = ", ".join(list_models())
        raise InputError(f"{name}: no such file, and no model of that name ({names}).")
    return from_file(path, trust)


def named(name: str, entry: dict) -> LatentModel:
    """A model of the catalogue, its file checked first."""
    if entry["family"] == "CHGNet":
        from .chgnet import ChgnetModel, load_file, packaged_file

        path = check(packaged_file(entry["file"]), entry["sha256"])
        return ChgnetModel(load_file(path, version=entry["version"]), name)
    if entry["family"] == "MACE":
        from .mace import MaceModel, load_network

        return MaceModel(load_network(check(DATA / entry["file"], entry["sha256"])), name)
    return ElementModel()


def untrained_twin(like: str, seed: int, name: str) -> LatentModel:
    """The architecture of `like` with weights drawn from `seed`."""
    entry = list_models()[like]
    if entry["family"] == "CHGNet":
        from .chgnet import ChgnetModel, untrained

        return ChgnetModel(untrained(named(like, entry).network, seed), name)
    from .mace import MaceModel, build_network

    card = json.loads((DATA / entry["file"]).with_suffix(".json").read_text(encoding="utf-8"))
    return MaceModel(build_network(card, seed), name)


def from_file(path: Path, trust: bool) -> LatentModel:
    """A model from a checkpoint file, its family told by the file's ending."""
    try:
        if path.name.endswith(".pth.tar"):
            from .chgnet import ChgnetModel, load_file

            return ChgnetModel(load_file(path), path.name.removesuffix(".pth.tar"))
        if path.suffix == ".safetensors":
            from .mace import MaceModel, load_network

            return MaceModel(load_network(path), path.stem)
        if path.suffix == ".model":
            if not trust:
                raise InputError(
                    f"{path}: is a pickled file, which can run any code while it loads; "
                    "pass --trust (trust=True) if you know where it comes from."
                )
            from .mace import MaceModel, load_pickled

            return MaceModel(load_pickled(path), path.stem)
    except InputError:
        raise
    except Exception as error:  # whatever the many readers raise on a broken file
        raise InputError(f"{path}: is not a readable checkpoint ({error}).") from error
    raise InputError(f"{path}: a model file ends in .safetensors, .pth.tar or .model.")
