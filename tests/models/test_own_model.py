"""The model of the page on models of one's own, held to what the others are held to."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from umlip_latents import load_model

from . import checks

FILE = Path(__file__).parents[2] / "notebooks" / "my_model.py"


@pytest.fixture(scope="module")
def model():
    return load_model(f"{FILE}:NearestDistances")


class TestAdapter(checks.AdapterSuite):
    unknown = ()  # it takes any element
    takes_device = False


def test_it_finds_the_nearest_neighbours_of_copper(model):
    """Eight of twelve, at the lattice constant over the square root of two."""
    rows = checks.latents(model, [bulk("Cu", a=3.63)])["backbone"]
    assert rows[0] == pytest.approx(np.full(8, np.sqrt(2) / 3.63), rel=1e-6)
