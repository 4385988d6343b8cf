"""Python environments for model families whose packages clash, and models that run in one.

An environment sits on top of the Python that makes it: what this one has already, PyTorch and this
package first of all, is seen from there, and only what the family wants otherwise is installed.
"""

import hashlib
import os
import platform
import shutil
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, run

from filelock import FileLock

from ..resources import DATA, OFFLINE, InputError, cache_folder, ensure_dir, unknown_name

REQUIREMENTS = DATA / "environments"
READY = "ready"  # the file that a finished environment has
CURRENT = "UMLIP_LATENTS_ENVIRONMENT"  # names the environment in the processes that run in one
OUTPUT = {"stdout": PIPE, "stderr": STDOUT, "text": True, "errors": "replace"}  # of a process


@dataclass(frozen=True)
class RemoteModel:
    """A model whose features are extracted by the Python of its own environment.

    Attributes
    ----------
    name, fingerprint, widths
        As those of a `LatentModel`.
    environment
        Name of the environment.
    source
        What `load_model` there takes: its name, or an absolute path.
    device
        PyTorch's device that the network is to run on there.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, int]
    environment: str
    source: str
    device: str = "auto"


def run_in_environment(
    environment: str, arguments: Sequence[str], on_line: Callable[[str], None]
) -> None:
    """Run ``umlip-latents ARGUMENTS`` by the Python of an environment, which is made if need be.

    Parameters
    ----------
    environment
        Its name, one of `environment_names`.
    arguments
        As on the command line.
    on_line
        Called with every line that is printed there, a progress bar's states included.

    Raises
    ------
    InputError
        The environment cannot be made, or the command fails: the last sentence printed there.
    """
    command = [make_environment(environment), "-u", "-m", "umlip_latents", *arguments]
    last = "no message"
    with Popen(command, env=os.environ | {CURRENT: environment}, **OUTPUT) as process:
        for line in map(str.strip, process.stdout):
            last = line or last
            on_line(line)
    if process.returncode:
        sentence = last.removeprefix("umlip-latents: ")
        if sentence == last:  # not one of ours: a crash
            sentence = f"environment {environment}: its Python stops with {last}"
        raise InputError(sentence)


def environment_names() -> list[str]:
    """Those that have a file of requirements in ``data/environments``."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def environment_folder(name: str) -> Path:
    """Where an environment is or would be, by its requirements and the Python that makes it."""
    if name not in environment_names():
        raise unknown_name(name, "environment", environment_names())
    base = f"{platform.python_version()} {sys.prefix}"
    text = (REQUIREMENTS / f"{name}.txt").read_bytes()
    digest = hashlib.sha256(text + base.encode()).hexdigest()[:8]
    return cache_folder() / "environments" / f"{name}-{digest}"


def list_environments() -> dict[str, str]:
    """Every environment and its state: ``ready`` or ``not made``, as an incomplete one is."""
    states = ("not made", "ready")
    return {n: states[(environment_folder(n) / READY).is_file()] for n in environment_names()}


def make_environment(name: str) -> Path:
    """Return the Python of an environment; make it first unless it is complete.

    The requirements are all that is needed beside the packages below, and pip is to add nothing: a
    package that would have another PyTorch gets the one that is there.

    Raises
    ------
    InputError
        Unknown name, pip fails, with pip's last line, or nothing may be downloaded.
    """
    folder = environment_folder(name)
    python = folder / "bin" / "python"
    with FileLock(ensure_dir(folder.parent) / f"{folder.name}.lock"):
        if (folder / READY).is_file():
            return python
        if os.environ.get(OFFLINE):
            why = f"is not made, and nothing is downloaded while {OFFLINE} is set"
            raise InputError(f"environment {name}: {why}.")
        print(f"Making the environment {name}, which takes minutes.", file=sys.stderr)
        venv.create(folder, clear=True, symlinks=True, with_pip=not find_spec("pip"))
        # its own packages come first, then those of this Python, as pip sees it, too
        below = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "below.pth").write_text(f"import site; [*map(site.addsitedir, {below})]\n")
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
        installed = run([*pip, "--requirement", REQUIREMENTS / f"{name}.txt"], **OUTPUT)
        if installed.returncode:
            why = installed.stdout.strip().rpartition("\n")[2].removeprefix("ERROR: ")
            raise InputError(f"environment {name}: pip stops with {why}")
        (folder / READY).touch()
    return python


def remove_environment(name: str) -> None:
    """Delete an environment, if it is there."""
    shutil.rmtree(environment_folder(name), ignore_errors=True)
