"""Where the project's files are, and how a downloaded one is checked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pooch import HTTPDownloader
from pooch import file_hash as sha256

PACKAGE = Path(__file__).parent
# a wheel carries `data` inside the package, a checkout beside `src`
DATA = PACKAGE / "data" if (PACKAGE / "data").is_dir() else PACKAGE.parents[1] / "data"

OFFLINE = "UMLIP_LATENTS_OFFLINE"  # set to anything: download nothing


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one clear sentence."""


@cache
def registry(name: str) -> dict[str, dict[str, Any]]:
    """The declarative entries of ``data/<name>.yaml``, as `schemas` wants them.

    Raises
    ------
    InputError
        Names the file, the entry, the key and the cause.
    """
    from .schemas import REGISTRIES, fault  # needs pydantic, a slow import

    path = DATA / f"{name}.yaml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}).") from None
    if wrong := fault(REGISTRIES[name], entries):
        raise InputError(f"{path}: {wrong}.")
    return entries


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` only if nothing fails."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def verified(path: Path, expected: str, who: str = "the registry expects") -> Path:
    """Return `path` if its SHA-256 is `expected`, raise `InputError` otherwise."""
    found = sha256(path)
    if found != expected:
        raise InputError(f"{path}: SHA-256 is {found}, {who} {expected}.")
    return path


def cache_folder() -> Path:
    """Where downloads, and the environments of model families, are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "umlip-latents"


def fetch(file: str, url: str, expected: str | None = None, *, trust: bool = False) -> Path:
    """A registered file: from ``UMLIP_LATENTS_DATA``, from the cache, or downloaded once.

    The single door to the network. The download goes to a temporary name and is renamed only
    after its SHA-256 has matched. Where none is published, `trust` on first use: the SHA-256 of
    the first copy is recorded, and later ones must have it.

    Raises
    ------
    InputError
        No copy can be had, or it has another SHA-256, or nothing vouches for it.
    """
    record, who = cache_folder() / f"{Path(file).name}.sha256", "the registry expects"
    if not expected and record.is_file():
        expected, who = record.read_text().strip(), f"the first copy had, as {record} says,"
    if not expected and not trust:
        raise InputError(
            f"{file}: no SHA-256 is published for it, and it can run any code while it loads; "
            "pass --trust (trust=True) once, and the SHA-256 of that copy is recorded."
        )
    path = Path(os.environ.get("UMLIP_LATENTS_DATA") or cache_folder()) / file
    if not path.is_file():
        path = cache_folder() / file
    if not path.is_file():
        download(url, path, expected)
    if expected:
        return verified(path, expected, who)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{sha256(path)}\n")
    words = "no SHA-256 was published for it; this copy is trusted, and its SHA-256 recorded in"
    print(f"{path.name}: {words} {record}", file=sys.stderr)
    return path


def download(url: str, path: Path, expected: str | None) -> None:
    """One short attempt to write what is at an address, whole or not at all."""
    if os.environ.get(OFFLINE):
        raise InputError(
            f"{path.name}: is not at hand, and nothing is downloaded while {OFFLINE} is set."
        )
    if not url.startswith("https://"):
        raise InputError(f"{path.name}: refusing to download from {url}, which is not https.")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_whole(path) as temporary:
            HTTPDownloader(progressbar=True, chunk_size=1 << 20, timeout=(5, 60))(
                url, temporary, None
            )
            if expected:
                verified(temporary, expected)
    except OSError as error:
        raise InputError(
            f"{path.name}: cannot be downloaded from {url} ({error}); "
            "put a copy into the folder named by UMLIP_LATENTS_DATA."
        ) from error
