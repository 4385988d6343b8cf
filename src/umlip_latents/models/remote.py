"""Models that run in an environment of their own.

To start its Python and to import its library takes seconds, often more than the features do. One
that has answered therefore waits a while for the next question.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

from ase import Atoms
from ase.io import write

from ..environments import CURRENT, make_environment
from ..resources import InputError, fetch

END = "\x04"  # of an answer; the exit status follows
IDLE = 60  # seconds after which a Python that nobody asks ends, and its memory is free
# Those that wait, and since when, by all that decides what they would answer. With this process
# their input ends, and so do they.
waiting: dict[tuple, tuple[Popen, float]] = {}


@dataclass(frozen=True)
class RemoteModel:
    """A model whose features are extracted by the Python of its own environment.

    Attributes
    ----------
    name, fingerprint, widths
        As those of a `LatentModel`.
    environment
        Name of the environment.
    files
        Name, address and SHA-256 of what it is loaded from there and has to be fetched.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, int]
    environment: str
    files: tuple[tuple[str, str, str | None], ...] = ()

    def extract(
        self,
        structures: Sequence[Atoms],
        layer: str,
        store: Path,
        watch: Callable[[int], Any],
        workers: int | None = None,
    ) -> None:
        """Have the features of the structures written into a store.

        Parameters
        ----------
        structures, layer, store, workers
            As `extract_features` was given them.
        watch
            Called with how many structures the other Python has dealt with, when it tells.

        Raises
        ------
        InputError
            With the sentence with which the other Python stopped, or why a file is not to be had.
        """
        for file in self.files:  # before an environment is made in vain
            fetch(*file)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "structures.traj"  # binary: not a bit of a position is lost
            write(file, [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in structures])
            command = ["extract", "--model", self.name, "--layer", layer]
            command += ["--structures", str(file), "--store", str(store)]
            command += ["--workers", str(workers)] if workers else []

            def see(line: str) -> None:
                if bar := re.search(r" (\d+)/\d+ \[", line):
                    watch(int(bar[1]))

            last = ask(self.environment, command, see)
        if last:
            sentence = last.removeprefix("umlip-latents: ")
            if sentence == last:  # not one of ours: a crash
                sentence = f"{self.name}: its environment stops with {last}"
            raise InputError(sentence)


def ask(environment: str, command: Sequence[str], see: Callable[[str], None]) -> str:
    """Have the Python of an environment, which is made, run a command of ours.

    Parameters
    ----------
    environment
        Its name.
    command
        As on the command line.
    see
        Called with every line that is printed there.

    Returns
    -------
    str
        The last line of a command that fails, nothing of one that does not.
    """
    python = make_environment(environment)
    key = environment, os.getpid(), os.getcwd(), *os.environ.items()
    other, since = waiting.pop(key, (None, 0.0))
    if other and (other.poll() is not None or time.monotonic() - since > IDLE / 2):
        other = end(other)  # if it has not yet, it is about to
    start = [python, "-u", "-m", "umlip_latents.answering"]
    pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": STDOUT, "text": True, "errors": "replace"}
    other = other or Popen(start, env={**os.environ, CURRENT: environment}, **pipes)
    last = "no word"
    try:
        print(json.dumps(command), file=other.stdin, flush=True)
        for line in other.stdout:
            if line.startswith(END):
                waiting[key] = other, time.monotonic()
                return last if int(line[1:]) else ""
            last = line.strip() or last
            see(last)
    except BaseException:
        end(other)
        raise
    end(other)
    return last


def end(other: Popen) -> None:
    """Have a process end, and wait until it has."""
    with other:
        other.terminate()
