"""A few of the faults of `faults.py`; `make test-deep` tries all of them."""

import subprocess
import sys
from pathlib import Path


def test_what_is_killed_starved_and_crowded_ends_as_if_nothing_had_been():
    command = [sys.executable, Path(__file__).with_name("faults.py"), "--sample"]
    done = subprocess.run([*command, "extract-element", "compress"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 simultaneous starts" in done.stdout
    assert "0 corrupt, 0 refused, 0 refused for ever" in done.stdout
