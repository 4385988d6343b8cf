"""Models that run in an environment of their own."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import write

from ..environments import CURRENT, failure, make_environment
from ..resources import InputError, fetch


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
        python = make_environment(self.environment)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "structures.traj"  # binary: not a bit of a position is lost
            write(file, [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in structures])
            command = [python, "-u", "-m", "umlip_latents", "extract", "--model", self.name]
            command += ["--layer", layer, "--structures", file, "--store", store]
            command += ["--output", Path(folder) / "features.npz"]
            command += ["--workers", str(workers)] if workers else []

            def see(line: str) -> None:
                if bar := re.search(r" (\d+)/\d+ \[", line):
                    watch(int(bar[1]))

            last = failure(command, see, **{CURRENT: self.environment})
        if last:
            sentence = last.removeprefix("umlip-latents: ")
            if sentence == last:  # not one of ours: a crash
                sentence = f"{self.name}: its environment stops with {last}"
            raise InputError(sentence)
