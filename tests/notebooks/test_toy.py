"""The toy's errors are those of its mathematics, whatever its parameters."""

import numpy as np
import pandas as pd
import papermill
import pytest

from umlip_latents.book import ROOT

NOTEBOOK = ROOT / "notebooks" / "02_errors.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of a run with parameters of our own."""
    folder = tmp_path_factory.mktemp("toy")
    papermill.execute_notebook(
        NOTEBOOK,
        folder / NOTEBOOK.name,
        parameters={"seed": 7, "n_points": 3000, "n_splits": 1, "results": str(folder)},
        cwd=NOTEBOOK.parent,
        kernel_name="python3",
        progress_bar=False,
    )
    return folder


@pytest.fixture(scope="module")
def errors(folder):
    """By source and target."""
    return pd.read_csv(folder / "02_errors-clouds.csv").set_index(["source", "target"])


def test_clouds_have_the_errors_of_their_mathematics(errors):
    # the best linear map leaves noise over signal and noise; x² of a normal x has variance 2 and
    # no linear relation to it; a sign holds 2 / pi of the variance of its number, and back
    expected = {
        "turned": (0, 0),
        "noisy": (0.5 / np.sqrt(1.25), 0.5 / np.sqrt(1.25)),
        "bent": (np.sqrt(2 / 4), np.sqrt((1 - 1 / 3) / 2)),
        "folded": (np.sqrt(2 / 3), np.sqrt(1 / 2)),
        "flat": (0, np.sqrt(1 / 2)),
        "four places": (np.sqrt(1 - 2 / np.pi),) * 2,
        "unrelated": (1, 1),
    }
    for name, (there, back) in expected.items():
        # the fourth power of a normal number is large at times
        far = 0.15 if name in ("bent", "folded") else 0.07
        assert errors.loc[("source", name), "gfre"] == pytest.approx(there, abs=far), name
        assert errors.loc[(name, "source"), "gfre"] == pytest.approx(back, abs=far), name


def test_local_maps_see_a_bend_and_no_fold(errors):
    assert errors.loc[[("source", "bent"), ("bent", "source")], "lfre"].max() < 0.1
    assert errors.loc[("source", "folded"), "lfre"] < 0.1
    assert errors.loc[("folded", "source"), "lfre"] > 0.6


def test_among_equal_points_no_map_is_better_than_the_mean_of_the_neighbours(errors):
    tied = errors.loc[("four places", "source")]
    assert tied["lfre"] == pytest.approx(tied["mean of the neighbours"], abs=0.02)


def test_noise_follows_its_formula(folder):
    table = pd.read_csv(folder / "02_errors-noise.csv").query("cloud == 'round'")
    expected = table["noise"] / np.sqrt(1 + table["noise"] ** 2)
    assert table["GFRE"].to_numpy() == pytest.approx(expected.to_numpy(), abs=0.05)
