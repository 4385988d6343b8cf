"""The errors of each target: what is drawn in a row, and what is not."""

import numpy as np
import pandas as pd
import pytest

from umlip_latents.plots.targets import TWIN, baseline_errors, error_per_target

FAMILIES = {"a1": "A", "a2": "A", "b": "B", "element": "baseline", "a-random": "A"}
BASELINES = ["element", "a-random"]
MATRIX = pd.DataFrame(np.linspace(0.2, 0.8, 25).reshape(5, 5), [*FAMILIES], [*FAMILIES])
MATRIX.loc["element", "b"] = 1.3


def test_bars_are_means_over_the_other_families_and_nothing_is_beyond_the_axis():
    axis = error_per_target(MATRIX, FAMILIES, BASELINES).axes[0]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    bars = dict(zip(rows, (bar.get_width() for bar in axis.patches), strict=True))
    assert bars["a1"] == pytest.approx(MATRIX.loc["b", "a1"])
    assert bars["b"] == pytest.approx(MATRIX.loc[["a1", "a2"], "b"].mean())
    assert sorted(rows) == ["a1", "a2", "b"]
    marks = np.concatenate([line.get_xdata() for line in axis.lines])
    assert np.nanmax(marks.astype(float)) == 1 < axis.get_xlim()[1]


def test_an_untrained_twin_stands_beside_its_own_family_alone():
    table = baseline_errors(MATRIX, FAMILIES, BASELINES, pd.Index(["a1", "b"]))
    assert table.loc["a1", TWIN] == MATRIX.loc["a-random", "a1"]
    assert np.isnan(table.loc["b", TWIN])
    assert table["element"].tolist() == MATRIX.loc["element", ["a1", "b"]].tolist()


def test_one_family_is_drawn_with_its_baselines():
    few = ["a1", "a2", "element"]
    figure = error_per_target(MATRIX.loc[few, few], FAMILIES, ["element"])
    assert len(figure.axes[0].get_yticklabels()) == 2
