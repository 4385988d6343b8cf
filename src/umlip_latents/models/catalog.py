"""The names: from a name or a file to a model ready for extraction."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import TYPE_CHECKING

from ..environments import CURRENT, REQUIREMENTS
from ..resources import DATA, InputError, fetch, registry, sha256, unknown

if TYPE_CHECKING:  # PyTorch and ASE are slow imports, and a list of names needs neither
    from .base import LatentModel
    from .remote import RemoteModel

# the module that reads a file, by the ending; it has `from_file(path)`
READERS = {".pth.tar": "chgnet", ".safetensors": "mace", ".model": "mace"}
ENTRY_POINTS = "umlip_latents.models"
PROTOCOL = ("name", "fingerprint", "widths", "prepare", "size", "features")


def list_models() -> dict[str, dict]:
    """The named models: family, training data, functional, widths, licence, citation.

    Those of the catalogue, the shipped ones by their cards, and those that installed packages
    register under the entry point group ``umlip_latents.models``.

    Examples
    --------
    >>> models = list_models()
    >>> models["chgnet-0.3.0"]["training_data"], models["7net-0"]["widths"]
    ('MPtrj', {'backbone': 128, 'last': 64})
    """
    found = {
        point.name: {"family": "plug-in", "description": f"Made by {point.value}", "offline": True}
        for point in entry_points(group=ENTRY_POINTS)
    }
    return found | shipped() | registry("models")


@cache
def shipped() -> dict[str, dict]:
    """The MACE models that were trained for the book."""
    entries = {}
    for path in sorted((DATA / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        structures = f"{card['n_structures']['training']} structures"
        what = card["recipe"]["description"]
        entries[card["name"]] = {key: card[key] for key in ("parameters", "widths", "sha256")} | {
            "family": "MACE",
            "description": f"{what}, trained for this book on {structures}",
            "training_data": f"this book's public samples, {structures}",
            "functional": "PBE / PBE+U",
            "licence": "MIT",
            "citation": "Batatia2022",
            "offline": True,
            "file": f"checkpoints/{path.stem}.safetensors",
        }
    return entries


def load_model(source: str | Path, *, trust: bool = False) -> LatentModel | RemoteModel:
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

    Returns
    -------
    LatentModel or RemoteModel
        A `RemoteModel` if the family runs in an environment of its own.

    Raises
    ------
    InputError
        Unknown name, missing file, wrong SHA-256, or a file that needs `trust`.

    Examples
    --------
    >>> model = load_model("mini-mace-mptrj")
    >>> model.widths["backbone"], model.widths["last"]
    (128, 80)
    """
    name = str(source)
    if entry := catalogue_entry(name):
        return from_catalogue(name, entry, trust)
    own = re.fullmatch(r"(.+\.py):(\w+)", name)
    path = Path(own[1] if own else name)
    if not os.path.isfile(path):
        raise unknown(str(path), "file or model", list_models())
    try:
        return own_model(path, own[2]) if own else from_file(path, trust)
    except InputError:
        raise
    except Exception as error:  # whatever one's own code raises, or the many readers of files
        why = shorten(str(error), 200)  # some write a page
        raise InputError(f"{path}: cannot be loaded ({type(error).__name__}: {why}).") from error


def catalogue_entry(name: str) -> dict | None:
    """The catalogue's entry; an untrained twin has that of its sibling, and its seed."""
    models = list_models()
    twin = re.fullmatch(r"(.+-untrained)-s(0|[1-9][0-9]{0,8})", name)
    if twin and (entry := models.get(f"{twin[1]}-s0")):
        return {**models[entry["like"]], **entry, "seed": int(twin[2])}
    return models.get(name)


def from_catalogue(name: str, entry: dict, trust: bool) -> LatentModel | RemoteModel:
    """A model of the catalogue, its file checked first.

    One that has an environment is known by its name, its checkpoint, which holds what else decides,
    and the packages of the environment, without its library.
    """
    if entry["family"] == "plug-in":
        return made_by(entry_points(group=ENTRY_POINTS)[name].load(), name)
    digest, environment = entry.get("sha256"), entry.get("environment")
    elsewhere = environment and os.environ.get(CURRENT) != environment
    parts = {"path": entry, "arguments": entry.get("arguments", {})}
    files = {
        key: (part["file"], part["url"], part.get("sha256"))
        for key, part in parts.items()
        if "url" in part
    }
    if not (elsewhere and digest):
        entry = entry | {key: fetch(*file, trust=trust) for key, file in files.items()}
        digest = digest or ("path" in entry and sha256(entry["path"]))
    if environment:
        from .base import identity

        requirements = sha256(REQUIREMENTS / f"{environment}.txt")
        sums = [digest, parts["arguments"].get("sha256"), requirements]
        fingerprint = identity({"name": name, "sha256": sums})
    if elsewhere:
        from .remote import RemoteModel

        widths = entry.get("widths", {})
        return RemoteModel(name, fingerprint, widths, environment, tuple(files.values()))
    model = family(re.sub(r"\W", "", entry["family"].lower())).load(name, entry)
    if "seed" in entry:
        model = type(model)(model.untrained(entry["seed"]), name)
    if environment:
        model.fingerprint = fingerprint
    return model


def family(name: str) -> ModuleType:
    """The module of a family, imported when it is needed: its name in small letters and digits."""
    return import_module(f".{name}", __package__)


def own_model(path: Path, attribute: str) -> LatentModel:
    """What `attribute` of a Python file gives when it is called. Runs the file."""
    spec = spec_from_file_location(f"own_{path.stem}", path)
    module = sys.modules[spec.name] = module_from_spec(spec)  # where a class is looked up
    spec.loader.exec_module(module)
    return made_by(getattr(module, attribute), str(path))


def made_by(make: Callable[[], LatentModel], where: str) -> LatentModel:
    """The model that a class or function gives, if it has what the protocol asks for.

    A model without a fingerprint, having no weights, gets that of its code.
    """
    model = make()
    if not hasattr(model, "fingerprint"):
        model.fingerprint = sha256(inspect.getfile(make))
    lacking = [member for member in PROTOCOL if not hasattr(model, member)]
    if lacking:
        raise InputError(f"{where}: its model lacks {', '.join(lacking)}.")
    return model


def from_file(path: Path, trust: bool) -> LatentModel:
    """A model from a checkpoint file, its family told by the file's ending."""
    ending = next((ending for ending in READERS if path.name.endswith(ending)), None)
    if ending is None:
        raise InputError(f"{path}: a model file ends in {', '.join(READERS)}.")
    if ending == ".model" and not trust:
        raise InputError(
            f"{path}: is a pickled file, which can run any code while it loads; "
            "pass --trust (trust=True) if you know where it comes from."
        )
    return family(READERS[ending]).from_file(path)
