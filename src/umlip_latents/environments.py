"""Python environments for model families whose dependencies clash, and models that run in one.

An environment sits on top of the Python that makes it: what this one has already, PyTorch and this
package first of all, is seen from there, and only what the family wants otherwise is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import write
from tqdm.auto import tqdm

from .resources import DATA, InputError, cache_folder

REQUIREMENTS = DATA / "environments"
READY = "ready"  # the file that a finished environment has
CURRENT = "UMLIP_LATENTS_ENVIRONMENT"  # set for the processes that run in one


def list_environments() -> dict[str, str]:
    """Every environment and its state: ``ready``, ``half-made`` or ``not made``."""
    states = {}
    for name in sorted(path.stem for path in REQUIREMENTS.glob("*.txt")):
        folder = environment_folder(name)
        half = "half-made" if folder.is_dir() else "not made"
        states[name] = "ready" if (folder / READY).is_file() else half
    return states


def environment_folder(name: str) -> Path:
    """Where an environment is or would be, by its requirements and the Python that makes it."""
    path = REQUIREMENTS / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in REQUIREMENTS.glob("*.txt")))
        raise InputError(f"{name}: no such environment ({known}).")
    base = f"{platform.python_version()} {sys.prefix}"
    mark = hashlib.sha256(path.read_bytes() + base.encode()).hexdigest()[:8]
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
    with locked(folder):
        if (folder / READY).is_file():
            return python
        shutil.rmtree(folder, ignore_errors=True)
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
    """Run pip on the requirements, one line of progress.

    They are all that is needed beside the packages below, and pip is to add nothing: a package
    that would have another PyTorch gets the one that is there.
    """
    command = [*pip, "--no-deps", "--requirement", str(REQUIREMENTS / f"{name}.txt")]
    last = ""
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
        tqdm(desc=f"making the environment {name}", bar_format="{desc} {elapsed}{postfix}") as bar,
    ):
        for line in process.stdout:
            if line.strip():
                last = line.strip()
            if line.startswith(("Collecting", "Processing", "Downloading", "Installing")):
                bar.set_postfix_str(Path(line.split()[1]).name)
    if process.returncode:
        raise InputError(f"environment {name}: pip stops with {last.removeprefix('ERROR: ')}")


def remove_environment(name: str) -> None:
    """Delete an environment."""
    folder = environment_folder(name)
    with locked(folder):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time; the operating system opens the lock of one that dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class RemoteModel:
    """A model whose features are extracted by the Python of its own environment.

    Attributes
    ----------
    name, fingerprint, widths
        As those of a `LatentModel`.
    environment
        Name of the environment.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, int]
    environment: str

    def extract(
        self, structures: Sequence[Atoms], layer: str, store: Path, watch: Callable[[], None]
    ) -> None:
        """Have the features of the structures written into a store.

        Parameters
        ----------
        structures, layer, store
            As `extract_features` was given them.
        watch
            Called now and then while the other Python works.

        Raises
        ------
        InputError
            With the sentence with which the other Python stopped.
        """
        python = make_environment(self.environment)
        with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "errors", "w+") as errors:
            file = Path(folder) / "structures.traj"  # binary: not a bit of a position is lost
            write(file, [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in structures])
            command = [python, "-m", "umlip_latents.cli", "extract", "--model", self.name]
            command += ["--layer", layer, "--structures", file, "--store", store]
            with subprocess.Popen(
                [*command, "--output", Path(folder) / "features.npz"],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, CURRENT: self.environment},
            ) as process:
                try:
                    while process.poll() is None:
                        watch()
                        time.sleep(0.5)
                finally:
                    process.terminate()
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no word"])[-1]
        if process.returncode:
            sentence = last.removeprefix("umlip-latents: ")
            if sentence == last:  # not one of ours: a crash
                sentence = f"{self.name}: its environment stops with {last}"
            raise InputError(sentence)
