"""Run the tests of model families in their own environments: ``tests/zoo.py [NAME ...]``.

Makes each environment if it is not there, runs in it ``tests/models/test_<environment>.py`` (what
follows a hyphen in the name of an environment is not in that of its tests), and extracts features
of its first model from here, if one can be had.
"""

import os
import subprocess
import sys
from pathlib import Path

from ase.build import bulk

from umlip_latents import extract_features, list_models
from umlip_latents.models.environments import CURRENT, list_environments, make_environment
from umlip_latents.resources import InputError

ROOT = Path(__file__).parents[1]


def passes(name: str) -> bool:
    """Whether the tests of an environment pass in it."""
    print(f"== {name}", flush=True)
    tests = ROOT / "tests" / "models" / f"test_{name.partition('-')[0]}.py"
    try:
        command = [make_environment(name), "-m", "pytest", "-ra", tests]
    except InputError as error:
        print(error)
        return False
    return not subprocess.run(command, cwd=ROOT, env={**os.environ, CURRENT: name}).returncode


def extracts(name: str) -> bool:
    """Whether features come back from the environment; true if it has no model at hand."""
    offline = [n for n, e in list_models().items() if e.get("environment") == name and e["offline"]]
    if not offline:
        return True
    found = extract_features([bulk("Cu"), bulk("Si")], offline[0])
    print(f"{offline[0]}: {found.features.shape} features came back")
    return len(found.features) == 3


if __name__ == "__main__":
    names = sys.argv[1:] or list_environments()
    failed = [name for name in names if not (passes(name) and extracts(name))]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
