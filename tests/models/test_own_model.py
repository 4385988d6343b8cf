"""The model of the notebook on models of one's own, held to what the others are held to."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from umlip_latents import load_model

from . import checks

FILE = Path(__file__).parents[2] / "notebooks" / "my_model.py"


@pytest.fixture(scope="module")
def model():
    return load_model(f"{FILE}:SymmetryFunctions")


class TestAdapter(checks.AdapterSuite):
    unknown = ()  # it takes any element

    def test_every_tensor_is_on_the_device_of_the_network(self, model):
        assert not hasattr(model, "to")


def test_it_counts_the_nearest_neighbours_of_copper(model):
    """Beyond the one-hot element, the counts of a shell far wider than its own width."""
    rows = checks.latents(model, [bulk("Cu", a=3.63)])["backbone"][0]
    assert rows[:118].argmax() + 1 == 29
    counts = rows[118 : 118 + 16]
    shell = model.centres < 3.0  # twelve neighbours at 2.57, the next six at 3.63 angstrom
    fade = 0.5 + 0.5 * np.cos(np.pi * 2.567 / model.cutoff)
    spacing = model.centres[1] - model.centres[0]
    integral = counts[shell].sum() * spacing / (model.width * np.sqrt(2 * np.pi))
    assert integral == pytest.approx(12 * fade, rel=0.25)
