"""The names: from a name or a file to a model ready for extraction."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from ..environments import CURRENT
from ..resources import DATA, InputError, fetch, first_record, registry, sha256
from .base import LatentModel
from .remote import RemoteModel

# the module of each family, which has `load(name, entry)`; imported when it is needed
FAMILIES = {
    "CHGNet": "chgnet",
    "MACE": "mace",
    "SevenNet": "sevennet",
    "PET": "pet",
    "UMA": "uma",
    "DPA-3": "deepmd",
    "Orb": "orb",
    "MatterSim": "mattersim",
    "SOAP": "soap",
    "baseline": "baselines",
}
# the module that reads a file, by the ending; it has `from_file(path)`
READERS = {".pth.tar": "chgnet", ".safetensors": "mace", ".model": "mace"}
ENTRY_POINTS = "umlip_latents.models"
PROTOCOL = ("name", "fingerprint", "widths", "prepare", "size", "features")


def list_models() -> dict[str, dict]:
    """The named models: family, training data, functional, widths, licence, citation.

    Those of the catalogue, the shipped ones by their cards, and those that installed packages
    register under the entry point group ``umlip_latents.models``.
    """
    found = {
        point.name: {
            "family": "plug-in",
            "description": f"Entry point {point.value}",
            "offline": True,
            "entry_point": point.value,
        }
        for point in entry_points(group=ENTRY_POINTS)
    }
    return found | shipped() | registry("models")


@cache
def shipped() -> dict[str, dict]:
    """The MACE models that were trained for the book."""
    entries = {}
    for path in sorted((DATA / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        entries[card["name"]] = {
            "family": "MACE",
            "description": card["recipe"]["description"],
            "training_data": f"public samples, {card['n_structures']['training']}",
            "functional": "PBE / PBE+U",
            "parameters": card["parameters"],
            "widths": card["widths"],
            "licence": "MIT",
            "citation": "Batatia2022",
            "offline": True,
            "file": f"checkpoints/{path.stem}.safetensors",
            "sha256": card["sha256"],
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
    """
    name = str(source)
    if entry := catalogue_entry(name):
        refuse_untrusted(name, entry, trust)
        return from_catalogue(name, entry)
    if own := re.fullmatch(r"(.+\.py):(\w+)", name):
        return own_model(Path(own[1]), own[2])
    path = Path(source)
    if not path.is_file():
        names = ", ".join(list_models())
        raise InputError(f"{name}: no such file, and no model of that name ({names}).")
    return from_file(path, trust)


def catalogue_entry(name: str) -> dict | None:
    """The catalogue's entry; an untrained twin has that of its sibling, and its seed."""
    models = list_models()
    twin = re.fullmatch(r"(.+-untrained)-s(\d+)", name)
    if twin and (entry := models.get(f"{twin[1]}-s0")):
        return {**models[entry["like"]], **entry, "seed": int(twin[2])}
    return models.get(name)


def refuse_untrusted(name: str, entry: dict, trust: bool) -> None:
    """Raise `InputError` if nothing vouches for a download: no SHA-256, no first copy, no trust."""
    if "url" not in entry or entry.get("sha256") or trust or first_record(entry["file"]).is_file():
        return
    raise InputError(
        f"{name}: no SHA-256 is published for {entry['file']}, which can run any code while it "
        "loads; pass --trust (trust=True) once, and the SHA-256 of that copy is recorded."
    )


def from_catalogue(name: str, entry: dict) -> LatentModel | RemoteModel:
    """A model of the catalogue, its file checked first."""
    if "entry_point" in entry:
        return made_by(EntryPoint(name, entry["entry_point"], ENTRY_POINTS).load(), name)
    environment = entry.get("environment")
    if environment and os.environ.get(CURRENT) != environment:
        return RemoteModel(name, identity(name, entry), entry.get("widths", {}), environment)
    model = family(FAMILIES[entry["family"]]).load(name, entry)
    if environment:
        model.fingerprint = identity(name, entry)
    return model


def family(module: str) -> ModuleType:
    """The module of a family."""
    return import_module(f".{module}", __package__)


def identity(name: str, entry: dict) -> str:
    """The fingerprint of a model, known without the family's library: its name and checkpoint."""
    digest = entry.get("sha256")
    if digest is None and "url" in entry:
        digest = sha256(fetch(entry["file"], entry["url"]))
    return hashlib.sha256(f"{name} {digest}".encode()).hexdigest()


def own_model(path: Path, attribute: str) -> LatentModel:
    """What `attribute` of a Python file gives when it is called. Runs the file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where Python looks up what a class is made of
    try:
        spec.loader.exec_module(module)
        return made_by(getattr(module, attribute), str(path))
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"{path}: stops with {type(error).__name__}: {error}.") from error


def made_by(make: Callable[[], LatentModel], where: str) -> LatentModel:
    """The model that a class or function gives, if it has what the protocol asks for.

    A model without a fingerprint, having no weights, gets that of its code.
    """
    model = make()
    if not hasattr(model, "fingerprint"):
        model.fingerprint = sha256(Path(inspect.getfile(make)))
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
    try:
        return family(READERS[ending]).from_file(path)
    except InputError:
        raise
    except Exception as error:  # whatever the many readers raise on a broken file
        raise InputError(f"{path}: is not a readable checkpoint ({error}).") from error
