"""What a result was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("umlip-latents", "numpy", "torch", "ase", "chgnet", "mace-torch", "skmatter", "tblite")


def provenance() -> dict:
    """Versions, git commit and machine."""
    return {
        "versions": {name: installed(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "commit": COMMIT,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def installed(name: str) -> str:
    """Version of a library, or that it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The git commit of this checkout, marked if files have changed since."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


COMMIT = commit()  # of the code that was loaded, whatever is committed while it runs
