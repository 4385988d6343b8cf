"""Where the project's files are, and how a downloaded one is checked."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

PACKAGE = Path(__file__).parent
# a wheel carries `data` inside the package, a checkout beside `src`
DATA = PACKAGE / "data" if (PACKAGE / "data").is_dir() else PACKAGE.parents[1] / "data"

OFFLINE = "UMLIP_LATENTS_OFFLINE"  # set to anything: download nothing
SECURE = "https://"  # what every address begins with
TIMEOUTS = (5, 60)  # seconds for a connection, and without a byte
FORGOTTEN = 3600  # seconds after which nobody writes a temporary file or folder any more


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
    import yaml

    from .schemas import REGISTRIES, fault  # needs pydantic, a slow import

    path = DATA / f"{name}.yaml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}).") from None
    if wrong := fault(REGISTRIES[name], entries):
        raise InputError(f"{path}: {wrong}.")
    return entries


def unknown(name: str, kind: str, known: Iterable[str]) -> InputError:
    """What to raise for a name that is none: it offers the nearest, or all if they are few.

    Examples
    --------
    >>> unknown("chgnet-0.3", "model", ["chgnet-0.3.0", "mace-mp-small"])
    InputError('chgnet-0.3: no such model (chgnet-0.3.0).')
    """
    known = list(known)
    few = known if len(known) < 13 else [f"none of the {len(known)} is near"]
    near = get_close_matches(str(name), known, 3) or few
    return InputError(f"{name}: no such {kind} ({', '.join(near)}).")


def at_least(least: int, **values: int | None) -> None:
    """Raise `InputError` unless all values but None are whole numbers, none of them below `least`.

    Examples
    --------
    >>> at_least(1, n_splits=0)
    Traceback (most recent call last):
    ...
    umlip_latents.resources.InputError: n_splits 0: must be a whole number from 1 on.
    """
    for name, value in values.items():
        if value is not None and not (hasattr(value, "__index__") and value >= least):
            raise InputError(f"{name} {value}: must be a whole number from {least} on.")


@contextmanager
def refused(path: str | Path, what: str = "cannot be written") -> Iterator[None]:
    """One sentence for whatever the system refuses in the enclosed lines."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: {what} ({error.strerror or error}).") from error


def readable(path: Path) -> Path:
    """Return the path of a file that can be read; raise `InputError` for anything else.

    A folder, a pipe or a device is none, nor is a file that shows no size, as those of ``/proc``.
    """
    with refused(path, "cannot be read"):
        if not path.stat().st_size or not path.is_file():
            raise InputError(f"{path}: is not a file, or an empty one.")
        path.open("rb").close()
    return path


def temporary_beside(path: Path) -> Path:
    """A new empty file beside `path`, as which a file can be written there; sweeps old ones.

    Raises
    ------
    InputError
        Nothing can be written there, or there is a folder, a link or a device.
    """
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
        raise InputError(f"{path}: is a folder, a link or a device, no file to write.")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: there is no folder {path.parent}.")
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # another process may be faster
            if time.time() - old.lstat().st_mtime > FORGOTTEN:
                old.unlink()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with refused(path):
        temporary.touch(exist_ok=False)  # never what somebody has put there, nor through a link
    return temporary


def made(folder: Path) -> Path:
    """A folder, which is made if it is not there; raises `InputError` if it cannot be."""
    with refused(folder, "the folder cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` only if nothing fails.

    Raises
    ------
    InputError
        The file cannot be written, at once or later.
    """
    temporary = temporary_beside(path)
    try:
        with refused(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, as `written_whole` does; a text in UTF-8."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


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
        expected = record.read_text(errors="replace").strip()
        who = f"the first copy had, as {record} says,"
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
    write_whole(made(record.parent) / record.name, f"{sha256(path)}\n")
    words = "no SHA-256 was published for it; this copy is trusted, and its SHA-256 recorded in"
    print(f"{path.name}: {words} {record}", file=sys.stderr)
    return path


def download(url: str, path: Path, expected: str | None) -> None:
    """One short attempt to write what is at an address, whole or not at all."""
    if os.environ.get(OFFLINE):
        raise InputError(
            f"{path.name}: is not at hand, and nothing is downloaded while {OFFLINE} is set."
        )
    if not url.startswith(SECURE):
        raise InputError(f"{path.name}: refusing to download from {url}, which is not https.")

    def only_secure(reply: Any, **_: Any) -> None:
        onward = urljoin(reply.url, reply.headers.get("location", ""))
        if not onward.startswith(SECURE):
            raise InputError(f"{path.name}: {url} leads to {onward}, which is not https.")

    from pooch import HTTPDownloader  # a slow import

    get = HTTPDownloader(
        progressbar=True, chunk_size=1 << 20, timeout=TIMEOUTS, hooks={"response": only_secure}
    )
    with written_whole(made(path.parent) / path.name) as temporary:
        try:
            get(url, temporary, None)
        except OSError as error:
            raise InputError(
                f"{path.name}: cannot be downloaded from {url} ({error}); "
                "put a copy into the folder named by UMLIP_LATENTS_DATA."
            ) from error
        if expected:
            verified(temporary, expected)
