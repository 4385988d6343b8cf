"""The catalogue: from a name or a file to a model ready for extraction."""

from __future__ import annotations

import json
import os
import re
import runpy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from types import FunctionType
from typing import TYPE_CHECKING, Any

from .. import resources
from ..resources import InputError, ensure_dir, registry, sha256, unknown_name, write_file
from .environments import CURRENT, REQUIREMENTS, RemoteModel

if TYPE_CHECKING:  # PyTorch and ASE are slow imports, and a list of names needs neither
    import torch

    from .base import LatentModel

# what the catalogue would say of a file with such an ending; of safetensors their card says it
ENDINGS = {
    ".pth.tar": {"family": "CHGNet"},
    ".safetensors": {},
    ".model": {"family": "MACE"},
    ".pth": {"family": "SevenNet", "environment": "sevennet"},
    ".nqx": {"family": "Nequix", "environment": "nequix"},
}
PICKLED = (".model", ".pth")
MATGL = ("TensorNet", "M3GNet", "QET", "SO3Net", "DIEP")  # in a folder that matgl saves
PROTOCOL = ("name", "widths", "prepare", "size", "features")


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
    trained = {name: e for name, e in list_models().items() if "trained_on" in e}
    return [name for name, e in trained.items() if e.get("domain") != "molecules"]


def load_model(
    source: str | Path, *, trust: bool = False, device: str | torch.device = "auto"
) -> LatentModel | RemoteModel:
    """Load a model by its name in the catalogue, or from a file.

    Parameters
    ----------
    source
        A name of `list_models` (an untrained twin takes any seed, ``chgnet-untrained-s7``); a
        file: what `TrainableAdapter.save` wrote (``.safetensors`` and a JSON card), a CHGNet
        ``.pth.tar``, a ``.model`` of mace-torch, a ``.pth`` of SevenNet, a ``.nqx`` of Nequix, a
        folder that matgl saved; or a model of your own, ``FILE.py:NAME``, whose code is run: a
        class, a function without arguments that makes it, or the object itself. Of a network of
        several heads or modalities ``FILE:NAME`` takes one.
    trust
        Allow a pickled file, which may run any code while it loads; also a checkpoint
        of the catalogue for which its makers publish no SHA-256. The same bytes are allowed from
        then on.
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
    name, place = str(source), resources.torch_device(device)
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
    digest = entry.get("sha256")
    parts = {"path": entry, "arguments": entry.get("arguments", {})}
    if not (digest and is_remote(entry)):
        for key, part in parts.items():
            if "url" in part:
                path = resources.fetch(part["file"], part["url"], part.get("sha256"))
                if "sha256" not in part:
                    check_trusted(path, trust)
                entry = entry | {key: path}
        digest = digest or ("path" in entry and sha256(entry["path"]))
    about = {"name": name, "sha256": [digest, parts["arguments"].get("sha256")]}
    return load_entry(name, entry, about, name)


def is_remote(entry: Mapping[str, Any]) -> bool:
    """Whether a model needs an environment other than the one of this process."""
    return entry.get("environment") not in (None, os.environ.get(CURRENT))


def load_entry(name: str, entry: dict, about: dict, source: str) -> LatentModel | RemoteModel:
    """A model whose files are at hand, or what its environment has to know of it.

    Parameters
    ----------
    name, entry
        As in the catalogue, with the paths of its files.
    about
        What its identity hangs on in an environment, with the SHA-256 of its files.
    source
        As in `RemoteModel`.
    """
    environment, fingerprint = entry.get("environment"), ""
    if environment:
        from .base import identity

        packages = sha256(REQUIREMENTS / f"{environment}.txt")
        fingerprint = identity(about | {"sha256": [*about["sha256"], packages]})
    if is_remote(entry):
        widths = entry.get("widths", {})
        return RemoteModel(name, fingerprint, widths, environment, source)
    module = (environment or entry["family"].lower()).partition("-")[0]
    model = import_module(f".{module}", __package__).load(name, entry)
    if "seed" in entry:
        model = type(model)(model.untrained(entry["seed"]), name)
    model.fingerprint = fingerprint or model.fingerprint
    return model


def load_file(name: str, trust: bool) -> LatentModel | RemoteModel:
    """A model from a file; of ``FILE:NAME`` a head or modality, or what a ``.py`` defines."""
    file, part = re.fullmatch(r"(.*?)(?::([\w-]+))?", name, re.DOTALL).groups()
    path = Path(file)
    if not os.path.exists(path):
        raise unknown_name(file, "file or model", list_models())
    if path.is_file() and path.name.endswith(PICKLED):
        check_trusted(path, trust)
    try:
        if path.suffix == ".py":
            found = runpy.run_path(file)
            if part not in found:
                raise unknown_name(name, "model", [n for n in found if not n.startswith("_")])
            return as_model(found[part], file)
        stem, entry = describe_file(path)
        if part:
            stem, entry = f"{stem}-{part}", entry | {"head": part, "modal": part}
        sums = [sha256(entry[key]) for key in ("path", "arguments") if key in entry]
        about = {"part": part, "sha256": sums}
        return load_entry(stem, entry, about, os.path.abspath(name))
    except InputError:
        raise
    except Exception as error:  # whatever one's own code raises, or the many readers of files
        why = shorten(str(error).split(". ")[0], 200)  # some write a page
        raise InputError(f"{path}: cannot be loaded ({type(error).__name__}: {why}).") from error


def check_trusted(path: Path, trust: bool) -> None:
    """Refuse a pickled file unless it is trusted now, or its very bytes were before.

    What is trusted is recorded in the cache by its SHA-256, so that workers, notebooks and
    environments may load it, too.
    """
    record = resources.cache_folder() / "trusted" / sha256(path)
    if trust:
        with suppress(InputError):  # where nothing can be kept it has to be said each time
            write_file(ensure_dir(record.parent) / record.name, f"{path.resolve()}\n")
    elif not record.is_file():
        why = "is pickled and can run any code while it loads; --trust (trust=True) allows it"
        raise InputError(f"{path}: {why}.")


def describe_file(path: Path) -> tuple[str, dict[str, Any]]:
    """The name of a model in a file, and the entry that the catalogue would have for it."""
    files = {"path": path / "state.pt", "arguments": path / "model.json"}
    if all(file.is_file() for file in files.values()):
        network = json.loads(files["arguments"].read_text(encoding="utf-8"))["kwargs"]["model"]
        family = network["@class"]
        if family not in MATGL:
            raise unknown_name(f"{path}: {family}", "family of matgl", MATGL)
        by_dgl = family != "DIEP" and not network["@module"].endswith("_pyg")
        environment = "matgl-dgl" if by_dgl else "matgl"
        return path.name, {"family": family, "environment": environment, **files}
    for ending, entry in ENDINGS.items():
        if path.name.endswith(ending):
            if not entry:
                from .base import read_card

                card = read_card(path)
                entry = {"family": card.get("family", "mace"), "head": card.get("head")}
            return path.name.removesuffix(ending), {**entry, "path": path}
    why = f"a model ends in {', '.join(ENDINGS)}, or is FILE.py:NAME or a folder that matgl saved"
    raise InputError(f"{path}: {why}.")


def as_model(found: Any, where: str) -> LatentModel:
    """A model of one's own: an object that has the `PROTOCOL`, or what makes one if it is called.

    Without a fingerprint it gets an empty one: its features are never stored, as nobody knows which
    files its code reads.

    Raises
    ------
    InputError
        It lacks a member.

    Examples
    --------
    >>> as_model(dict, "mine")
    Traceback (most recent call last):
    ...
    umlip_latents.resources.InputError: mine: its model lacks name, widths, prepare, size, features.
    """
    if isinstance(found, type | FunctionType):
        found = found()
    if lacking := [member for member in PROTOCOL if not hasattr(found, member)]:
        raise InputError(f"{where}: its model lacks {', '.join(lacking)}.")
    if not hasattr(found, "fingerprint"):
        found.fingerprint = ""
    return found
