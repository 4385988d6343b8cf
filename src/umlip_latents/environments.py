"""Python environments for model families whose dependencies clash.

An environment sits on top of the Python that makes it: what this one has already, PyTorch and this
package first of all, is seen from there, and only what the family wants otherwise is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

from filelock import FileLock
from tqdm import tqdm

from .resources import DATA, InputError, cache_folder, made, unknown

REQUIREMENTS = DATA / "environments"
READY = "ready"  # the file that a finished environment has
CURRENT = "UMLIP_LATENTS_ENVIRONMENT"  # set for the processes that run in one


def list_environments() -> dict[str, str]:
    """Every environment and its state: ``ready``, ``half-made`` or ``not made``."""

    def state(folder: Path) -> str:
        half = "half-made" if os.path.lexists(folder) else "not made"
        return "ready" if is_ready(folder) else half

    return {name: state(environment_folder(name)) for name in environment_names()}


def is_ready(folder: Path) -> bool:
    """Whether an environment is complete; what a link leads to is not ours."""
    return not folder.is_symlink() and (folder / READY).is_file()


def clear(folder: Path) -> None:
    """Delete a folder, or the link that is in its place and not what it leads to."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def environment_names() -> list[str]:
    """Those that have a file of requirements."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def environment_folder(name: str) -> Path:
    """Where an environment is or would be, by its requirements and the Python that makes it."""
    if name not in environment_names():
        raise unknown(name, "environment", environment_names())
    base = f"{platform.python_version()} {sys.prefix}"
    text = (REQUIREMENTS / f"{name}.txt").read_bytes()
    mark = hashlib.sha256(text + base.encode()).hexdigest()[:8]
    return cache_folder() / "environments" / f"{name}-{mark}"


def make_environment(name: str) -> Path:
    """The Python of an environment, which is made, or made anew if it is half-made.

    Raises
    ------
    InputError
        Unknown name, or pip fails; the message is pip's last word.
    """
    folder = environment_folder(name)
    python = folder / "bin" / "python"
    with FileLock(made(folder.parent) / f"{folder.name}.lock"):
        if is_ready(folder):
            return python
        clear(folder)
        venv.create(folder, symlinks=True, with_pip=importlib.util.find_spec("pip") is None)
        # its own packages come first, then those of this Python, as pip sees it, too
        below = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
        own = next(folder.glob("lib/python*/site-packages"))
        (own / "below.pth").write_text(
            "".join(f"import site; site.addsitedir({path!r})\n" for path in below)
        )
        install(name, [str(python), "-m", "pip", "install", "--disable-pip-version-check"])
        (folder / READY).touch()
    return python


def install(name: str, pip: Sequence[str]) -> None:
    """Run pip on the requirements, its latest line as progress.

    They are all that is needed beside the packages below, and pip is to add nothing: a package
    that would have another PyTorch gets the one that is there.
    """
    command = [*pip, "--no-deps", "--requirement", str(REQUIREMENTS / f"{name}.txt")]
    with tqdm(desc=f"making the environment {name}", bar_format="{desc} {elapsed}{postfix}") as bar:
        if last := failure(command, lambda line: bar.set_postfix_str(line[:60])):
            raise InputError(f"environment {name}: pip stops with {last.removeprefix('ERROR: ')}")


def failure(command: Sequence[str | Path], see: Callable[[str], None]) -> str:
    """Run a command, have `see` called with every line that it prints; its last one if it fails."""
    last = "no word"
    with Popen(command, stdout=PIPE, stderr=STDOUT, text=True, errors="replace") as run:
        try:
            for line in run.stdout:
                last = line.strip() or last
                see(last)
        except BaseException:
            run.terminate()
            raise
    return last if run.returncode else ""


def remove_environment(name: str) -> None:
    """Delete an environment."""
    folder = environment_folder(name)
    with FileLock(made(folder.parent) / f"{folder.name}.lock"):
        clear(folder)
