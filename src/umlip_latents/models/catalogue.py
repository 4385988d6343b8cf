"""The catalogue: from a name or a file to a model ready for extraction."""

from __future__ import annotations

import os
import re
import runpy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from ..resources import InputError, fetch, registry, sha256, torch_device, unknown_name
from .environments import CURRENT, REQUIREMENTS, RemoteModel

if TYPE_CHECKING:  # PyTorch and ASE are slow imports, and a list of names needs neither
    import torch

    from .base import LatentModel

# modules by the endings of the files that they read; each has `from_file(path)`
READERS = {".pth.tar": "chgnet", ".safetensors": "mace", ".model": "mace"}
PROTOCOL = ("name", "fingerprint", "widths", "prepare", "size", "features")


def list_models() -> dict[str, dict]:
    """The named models: family, training data, functional, widths, licence, citation.

    Examples
    --------
    >>> models = list_models()
    >>> models["chgnet-0.3.0"]["training_data"], models["7net-0"]["widths"]
    ('MPtrj', {'backbone': 128, 'last': 64})
    """
    return registry("models")


def published_models() -> list[str]:
    """Names of the published checkpoints that the book measures: those trained on materials.

    Examples
    --------
    >>> "chgnet-0.3.0" in published_models(), "chgnet-untrained-s0" in published_models()
    (True, False)
    """
    entries = list_models().items()
    trained = [name for name, e in entries if "architecture" in e and e["training_data"] != "none"]
    return [name for name in trained if list_models()[name].get("domain") != "molecules"]


def load_model(
    source: str | Path, *, trust: bool = False, device: str | torch.device = "auto"
) -> LatentModel | RemoteModel:
    """Load a model by its name in the catalogue, or from a file.

    Parameters
    ----------
    source
        A name of `list_models` (an untrained twin takes any seed, ``chgnet-untrained-s7``), a
        MACE in ``.safetensors`` with its JSON card beside it, a CHGNet ``.pth.tar``, a MACE
        ``.model`` pickled by mace-torch, or a model of your own, ``my_model.py:MyModel``, whose
        code is run.
    trust
        Allow a pickled file, which may run any code while it loads; also the first copy of a
        checkpoint of the catalogue for which its makers publish no SHA-256.
    device
        PyTorch's name of where the network is to run; ``"auto"`` is CUDA if there is one, else the
        processor. What does not run in PyTorch (Nequix, SOAP, the bare element), DPA-3, and a model
        of your own without a method ``to`` do not take it.

    Returns
    -------
    LatentModel or RemoteModel
        A `RemoteModel` if the family runs in an environment of its own.

    Raises
    ------
    InputError
        Unknown name, missing file, wrong SHA-256, a file that needs `trust`, no such device.

    Examples
    --------
    >>> model = load_model("mini-mace-mptrj", device="cpu")
    >>> model.widths["backbone"], model.widths["last"]
    (128, 80)
    """
    name, place = str(source), torch_device(device)
    entry = catalogue_entry(name)
    model = load_named_model(name, entry, trust) if entry else load_file(name, trust)
    if isinstance(model, RemoteModel):
        return replace(model, device=str(place))
    return model.to(place) if hasattr(model, "to") else model


def catalogue_entry(name: str) -> dict | None:
    """The catalogue's entry; an untrained twin has that of its sibling, and its seed."""
    models = list_models()
    twin = re.fullmatch(r"(.+-untrained)-s(0|[1-9][0-9]{0,8})", name)
    if twin and (entry := models.get(f"{twin[1]}-s0")):
        return {**models[entry["like"]], **entry, "seed": int(twin[2])}
    return models.get(name)


def load_named_model(name: str, entry: dict, trust: bool) -> LatentModel | RemoteModel:
    """A model of the catalogue, its files checked first.

    One that has an environment is known by its name, its checkpoint, which holds what else decides,
    and the packages of the environment, without its library.
    """
    digest, environment = entry.get("sha256"), entry.get("environment")
    remote = environment and os.environ.get(CURRENT) != environment
    parts = {"path": entry, "arguments": entry.get("arguments", {})}
    files = {k: (p["file"], p["url"], p.get("sha256")) for k, p in parts.items() if "url" in p}
    if not (remote and digest):
        entry = entry | {key: fetch(*file, trust=trust) for key, file in files.items()}
        digest = digest or ("path" in entry and sha256(entry["path"]))
    if environment:
        from .base import identity

        packages = REQUIREMENTS / f"{environment}.txt"
        sums = [digest, parts["arguments"].get("sha256"), sha256(packages)]
        fingerprint = identity({"name": name, "sha256": sums})
    if remote:
        widths = entry.get("widths", {})
        return RemoteModel(name, fingerprint, widths, environment, tuple(files.values()))
    module = (environment or entry["family"].lower()).partition("-")[0]
    model = import_module(f".{module}", __package__).load(name, entry)
    if "seed" in entry:
        model = type(model)(model.untrained(entry["seed"]), name)
    if environment:
        model.fingerprint = fingerprint
    return model


def load_file(name: str, trust: bool) -> LatentModel:
    """A model from a checkpoint, or from a file of Python and a name in it, ``FILE.py:CLASS``."""
    own = re.fullmatch(r"(.+\.py):(\w+)", name)
    path = Path(own[1] if own else name)
    family = next((READERS[ending] for ending in READERS if name.endswith(ending)), None)
    if not os.path.isfile(path):
        raise unknown_name(str(path), "file or model", list_models())
    if not (own or family):
        raise InputError(f"{path}: a model file ends in {', '.join(READERS)}.")
    if path.suffix == ".model" and not trust:
        why = "is pickled and can run any code; --trust (trust=True) allows it"
        raise InputError(f"{path}: {why}.")
    try:
        if own:
            model = runpy.run_path(str(path))[own[2]]()
        else:
            model = import_module(f".{family}", __package__).from_file(path)
    except InputError:
        raise
    except Exception as error:  # whatever one's own code raises, or the many readers of files
        why = shorten(str(error).split(". ")[0], 200)  # some write a page
        raise InputError(f"{path}: cannot be loaded ({type(error).__name__}: {why}).") from error
    if not hasattr(model, "fingerprint"):
        model.fingerprint = ""  # never stored: nobody knows which files its code reads
    if lacking := [member for member in PROTOCOL if not hasattr(model, member)]:
        raise InputError(f"{path}: its model lacks {', '.join(lacking)}.")
    return model
