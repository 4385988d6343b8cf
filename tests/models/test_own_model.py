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


def test_it_is_as_short_as_promised():
    code = FILE.read_text().split("class ")[1].splitlines()
    assert len(code) < 30


@pytest.mark.parametrize(
    "name", ["widths", "rotation", "translation", "permutation", "supercell", "batch", "geometry"]
)
def test_common_checks(model, name):
    getattr(checks, f"check_{name}")(model, checks.specimens())


def test_slabs_and_isolated_atoms(model):
    checks.check_slab(model)
    checks.check_isolated_accepted(model)


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
