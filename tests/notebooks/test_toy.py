"""The toy's errors are those of its mathematics, whatever its parameters."""

import numpy as np
import pandas as pd
import papermill
import pytest

from umlip_latents.book import ROOT

NOTEBOOK = ROOT / "notebooks" / "00_toy.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of a run with parameters of our own."""
    folder = tmp_path_factory.mktemp("toy")
    parameters = {"seed": 7, "n_points": 1500, "angle": 80, "noise": 0.8, "bend": 0.5, "thin": 0.3}
    papermill.execute_notebook(
        NOTEBOOK,
        folder / NOTEBOOK.name,
        parameters={**parameters, "results": str(folder)},
        cwd=NOTEBOOK.parent,
        kernel_name="python3",
        progress_bar=False,
    )
    return folder


@pytest.fixture(scope="module")
def errors(folder):
    """A row per copy, a column per measure."""
    table = pd.read_csv(folder / "00_toy-errors.csv")
    return table.pivot(index="copy", columns="measure", values="error")


def test_copies_have_the_errors_of_their_mathematics(errors):
    to_it, back = errors["GFRE to it"], errors["GFRE back"]
    for name in ("rotated", "thin"):
        assert max(to_it[name], back[name]) < 1e-6
    assert to_it["flat"] < 1e-6
    # x² of a normal x has variance 2 and no linear relation to it
    expected = {
        ("noisy", 0): 0.8 / np.sqrt(1 + 0.8**2),
        ("noisy", 1): 0.8 / np.sqrt(1 + 0.8**2),
        ("bent", 0): 0.5 / np.sqrt(1 + 0.5**2),
        ("bent", 1): 0.5 / np.sqrt(1 + 2 * 0.5**2),
        ("folded", 0): np.sqrt(2 / 3),
        ("folded", 1): np.sqrt(1 / 2),
        ("flat", 1): np.sqrt(1 / 2),
        ("stranger", 0): 1,
        ("stranger", 1): 1,
    }
    for (name, way), error in expected.items():
        assert (to_it, back)[way][name] == pytest.approx(error, abs=0.07), (name, way)


def test_local_maps_see_a_bend_and_no_fold(errors):
    assert errors.loc["bent", ["LFRE to it", "LFRE back"]].max() < 0.1
    assert errors.loc["folded", "LFRE to it"] < 0.1
    assert errors.loc["folded", "LFRE back"] > 0.6


def test_noise_follows_its_formula(folder):
    table = pd.read_csv(folder / "00_toy-noise.csv")
    assert (table["error"] - table["expected"]).abs().max() < 0.05
    thin = table.query("direction == 'noisy thin to source'").set_index("noise")["expected"]
    assert thin[2] == pytest.approx(np.sqrt((4 / 5 + 4 / 4.09) / 2))
