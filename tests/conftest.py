"""Structures and models shared by the tests."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
import threadpoolctl
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import HealthCheck, Phase, settings

from umlip_latents import load_model

# the same few examples everywhere
settings.register_profile(
    "few",
    max_examples=12,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # no shrinking
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("few")


def pytest_configure(config):
    """The processes of pytest-xdist share the cores, and do not wait for each other's threads."""
    if hasattr(config, "workerinput"):
        share = max(1, joblib.cpu_count() // config.workerinput["workercount"])
        threadpoolctl.threadpool_limits(share)
        torch.set_num_threads(share)


class Models(dict):
    """Named models, loaded when they are first asked for."""

    def __missing__(self, name):
        self[name] = load_model(name)
        return self[name]


@pytest.fixture(scope="session")
def models():
    """Every named model, loaded once."""
    return Models()


@pytest.fixture(scope="session")
def crystals() -> list[Atoms]:
    """Small periodic structures, distorted so that no symmetry hides an error."""
    found = [
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("Si", cubic=True),
        perovskite(),
        bulk("Ti"),
    ]
    rng = np.random.default_rng(1)
    for atoms in found:
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
    return found


def perovskite() -> Atoms:
    """Cubic SrTiO3."""
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("SrTiO3", scaled_positions=scaled, cell=[3.9] * 3, pbc=True)


@pytest.fixture(scope="session")
def ethanol() -> Atoms:
    """A molecule without a cell."""
    return molecule("CH3CH2OH")


@pytest.fixture(scope="session")
def lonely() -> Atoms:
    """A crystal with an atom far from all others."""
    atoms = Atoms("NaClAr", [(0, 0, 0), (2.8, 0, 0), (12, 12, 12)], cell=[24] * 3, pbc=True)
    atoms.numbers[2] = 11
    return atoms


@pytest.fixture
def small_files():
    """No file that is written inside ``with small_files(n_bytes)`` gets larger: a full disk."""

    @contextmanager
    def limited(size):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limited
