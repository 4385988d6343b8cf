"""Models that run in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import write

from ..environments import CURRENT, make_environment
from ..resources import InputError


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
