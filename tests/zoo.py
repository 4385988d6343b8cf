"""Run the adapter suite of model families in their own environments: ``tests/zoo.py [NAME ...]``.

Makes each environment if it is not there, and runs in it the suite that all families share and the
family's own tests, ``tests/models/test_<environment>.py``, if there are any; what follows a hyphen
in the name of an environment is not in that of its tests.
"""

import os
import subprocess
import sys
from pathlib import Path

from umlip_latents.environments import CURRENT, list_environments, make_environment
from umlip_latents.resources import InputError

ROOT = Path(__file__).parents[1]


def passes(name: str) -> bool:
    """Whether the tests of an environment pass in it."""
    print(f"== {name}", flush=True)
    try:
        python = make_environment(name)
    except InputError as error:
        print(error)
        return False
    own = ROOT / "tests" / "models" / f"test_{name.partition('-')[0]}.py"
    tests = [ROOT / "tests" / "models" / "test_adapters.py", *([own] if own.is_file() else [])]
    done = subprocess.run(
        [python, "-m", "pytest", "-ra", *tests], cwd=ROOT, env={**os.environ, CURRENT: name}
    )
    return done.returncode == 0


if __name__ == "__main__":
    failed = [name for name in sys.argv[1:] or list_environments() if not passes(name)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
