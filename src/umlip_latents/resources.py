"""The project's files, the one door to the network, and results that are whole or not there."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

if TYPE_CHECKING:  # slow to import
    import pandas as pd
    import torch

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parents[1]  # of a checkout

# a wheel carries `data` inside the package, a checkout beside `src`
DATA = PACKAGE / "data" if (PACKAGE / "data").is_dir() else ROOT / "data"
REFERENCE = DATA / "reference-results" / "full"
PUBLISHED = DATA / "published" / "reconstruction_errors.csv"
OFFLINE = "UMLIP_LATENTS_OFFLINE"  # set to anything: download nothing
SECURE = "https://"  # how every address begins
TIMEOUTS = (5, 60)  # seconds for a connection, and without a byte
LIBRARIES = ("umlip-latents", "numpy", "torch", "ase", "chgnet", "mace-torch", "skmatter")


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one clear sentence."""


@cache
def registry(name: str) -> dict[str, dict[str, Any]]:
    """The declarative entries of ``data/<name>.yaml``."""
    import yaml

    return yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))


def unknown_name(name: str, kind: str, known: Collection[str]) -> InputError:
    """What to raise for an unknown name: it offers the nearest ones, or all if they are few.

    Examples
    --------
    >>> unknown_name("chgnet-0.3", "model", ["chgnet-0.3.0", "mace-mp-small"])
    InputError('chgnet-0.3: no such model (chgnet-0.3.0).')
    """
    few = known if len(known) < 13 else [f"none of the {len(known)} is near"]
    near = get_close_matches(str(name), known, 3) or few
    return InputError(f"{name}: no such {kind} ({', '.join(near)}).")


def check_at_least(least: int, **values: int | None) -> None:
    """Raise `InputError` unless all values but None are whole numbers, none of them below `least`.

    Examples
    --------
    >>> check_at_least(1, n_splits=0)
    Traceback (most recent call last):
    ...
    umlip_latents.resources.InputError: n_splits 0: must be a whole number from 1 on.
    """
    for name, value in values.items():
        if value is not None and not (hasattr(value, "__index__") and value >= least):
            raise InputError(f"{name} {value}: must be a whole number from {least} on.")


def torch_device(name: str | torch.device = "auto") -> torch.device:
    """The PyTorch device of a name; ``"auto"`` is CUDA if there is one, else the processor.

    Raises `InputError` if PyTorch has no such device here.

    Examples
    --------
    >>> torch_device("cpu")
    device(type='cpu')
    """
    import torch

    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError):
        raise InputError(f"device {name}: PyTorch has no such device here.") from None
    return device


@contextmanager
def wrap_os_error(path: str | Path, what: str = "cannot be written") -> Iterator[None]:
    """Turn an `OSError` of the enclosed lines into an `InputError` that names the path."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: {what} ({error.strerror or error}).") from error


def ensure_dir(folder: Path) -> Path:
    """Make a folder if it is not there, and return it; raises `InputError` if it cannot be made.

    Examples
    --------
    >>> ensure_dir(Path(".")).is_dir()
    True
    """
    with wrap_os_error(folder, "the folder cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(path: Path) -> None:
    """Raise `InputError` unless a file can be written there, in place of nothing or of a file."""
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
        raise InputError(f"{path}: is a folder, a link or a device, no file to write.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: there is no folder {path.parent} that can be written to.")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, which becomes `path` only if nothing fails."""
    check_writable(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with wrap_os_error(path):
        temporary.touch(exist_ok=False)  # through no link that somebody may have put there
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing; a text in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    import pooch

    return pooch.file_hash(str(path))


def check_sha256(path: Path, expected: str, source: str = "the registry says") -> Path:
    """Return `path` if its SHA-256 is `expected`, raise `InputError` otherwise."""
    found = sha256(path)
    if found != expected:
        raise InputError(f"{path}: SHA-256 is {found}, {source} {expected}.")
    return path


def cache_folder() -> Path:
    """Where downloads, and the environments of model families, are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "umlip-latents"


def find_copy(file: str) -> Path | None:
    """A registered file that ships, or from ``UMLIP_LATENTS_DATA`` or the cache, if it is there."""
    folders = filter(None, (DATA, os.environ.get("UMLIP_LATENTS_DATA"), cache_folder()))
    return next((path for folder in folders if (path := Path(folder, file)).is_file()), None)


def fetch(file: str, url: str, expected: str | None = None) -> Path:
    """A registered file: a copy that is at hand, or one downloaded now, the one door to the web.

    Parameters
    ----------
    file, url
        Its name in the folder ``UMLIP_LATENTS_DATA`` and in the cache, and where it comes from.
    expected
        Its SHA-256, if one is published.

    Raises
    ------
    InputError
        No copy can be had, or it has another SHA-256.
    """
    if copy := find_copy(file):
        return check_sha256(copy, expected) if expected else copy
    path = cache_folder() / file
    if os.environ.get(OFFLINE):
        raise InputError(f"{path.name}: is not at hand, and {OFFLINE} forbids to download it.")

    import pooch

    def check_https(address: str) -> None:
        if not address.startswith(SECURE):
            raise InputError(f"{address} is not https")

    pooch.get_logger().setLevel("WARNING")  # the bar says what is downloaded
    check = {"response": lambda r, **_: check_https(urljoin(r.url, r.headers.get("location", "")))}
    get = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 20, timeout=TIMEOUTS, hooks=check)
    try:
        check_https(url)
        return Path(pooch.retrieve(url, expected, path.name, path.parent, downloader=get))
    except (OSError, ValueError) as error:  # ValueError: another SHA-256, or not https
        why = f"cannot be downloaded from {url} ({error}); put a copy into UMLIP_LATENTS_DATA"
        raise InputError(f"{path.name}: {why}.") from error


def save_results(folder: str | Path, name: str, **tables: pd.DataFrame) -> None:
    """Write a notebook's tables, ``<name>-<table>.csv``, and their provenance, ``<name>.json``.

    A table without rows is not written. The folder is made if it is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_results(folder, "03_mine")
    ...     os.listdir(folder)
    ['03_mine.json']
    """
    folder = ensure_dir(Path(folder))
    for key, table in tables.items():
        if not table.empty:
            text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
            write_file(folder / f"{name}-{key}.csv", text)
    write_file(folder / f"{name}.json", json.dumps({"provenance": provenance()}, indent=1) + "\n")


def provenance(files: Iterable[Path] = ()) -> dict[str, Any]:
    """Versions, git commit and machine that a result comes from, and the SHA-256 of files."""
    return {
        "versions": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "commit": git_commit(),
        "machine": f"{platform.system()} {platform.machine()}",
        **{str(path): sha256(path) for path in files},
    }


@cache
def git_commit() -> str:
    """The commit of the checkout that this package is part of, if it is."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return "unknown"
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
