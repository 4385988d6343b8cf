"""A model for tests, of which everybody knows the features: the positions of the atoms."""

import os
import signal
import time

import numpy as np
from ase import Atoms


class Positions:
    """Refuses nothing, counts its calls, and takes a while for each if it is asked to.

    A call with one structure does not count: it is the check that batches change nothing.

    Parameters
    ----------
    n_calls
        After so many it is interrupted, as by Ctrl-C.
    seconds
        That a call takes at least.
    """

    name = "positions"
    fingerprint = "f" * 64

    def __init__(self, n_calls: float = np.inf, seconds: float = 0):
        self.widths = {"backbone": 3, "last": 1}
        self.calls, self.n_calls, self.seconds = 0, n_calls, seconds

    def prepare(self, atoms):
        return atoms

    def size(self, graph):
        return len(graph)

    def features(self, graphs):
        self.calls += len(graphs) > 1
        if self.calls > self.n_calls:
            raise KeyboardInterrupt
        time.sleep(self.seconds)
        x = np.concatenate([g.positions for g in graphs]).astype(np.float32)
        return {"backbone": x, "last": x[:, :1]}


class Deadly(Positions):
    """Kills every process but the one that made it."""

    def __init__(self):
        super().__init__()
        self.home = os.getpid()

    def features(self, graphs):
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().features(graphs)


def clusters(n_structures: int) -> list[Atoms]:
    """Small clusters of hydrogen, no two alike."""
    rng = np.random.default_rng(0)
    return [
        Atoms("H" * n, rng.normal(scale=3, size=(n, 3))) for n in rng.integers(1, 9, n_structures)
    ]
