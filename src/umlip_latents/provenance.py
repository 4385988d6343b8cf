"""What a result was made with."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("umlip-latents", "numpy", "torch", "ase", "chgnet", "mace-torch", "skmatter", "tblite")


def provenance() -> dict:
    """Versions, git commit and machine."""
    return {
        "versions": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "commit": COMMIT,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """The git commit of this checkout, marked if files have changed since."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.check_output([*git, "--abbrev=12"], stderr=subprocess.DEVNULL, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.strip()


COMMIT = commit()  # of the code that was loaded, whatever is committed while it runs
