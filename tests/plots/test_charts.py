"""Figures that can be read: ticks that do not crowd, baselines set apart."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from umlip_latents.plots.charts import TWIN, error_per_target
from umlip_latents.plots.matrices import error_heat_maps
from umlip_latents.plots.style import plain_log_ticks

FAMILIES = {"a1": "A", "a2": "A", "b": "B", "element": "baseline", "a-random": "A"}
BASELINES = ["element", "a-random"]
MATRIX = pd.DataFrame(np.linspace(0.2, 0.8, 25).reshape(5, 5), [*FAMILIES], [*FAMILIES])
MATRIX.loc["element", "b"] = 1.3


@pytest.mark.parametrize("high", [1.1, 1.6, 4, 20, 100, 3000])
def test_logarithmic_axes_have_a_few_plain_ticks(high):
    figure, axis = plt.subplots()
    axis.set_xscale("log")
    axis.set_xlim(1, high)
    plain_log_ticks(axis.xaxis)
    figure.canvas.draw()
    inside = [tick for tick in axis.get_xticks() if 1 <= tick <= high]
    plt.close(figure)
    assert 3 <= len(inside) <= 9


@pytest.mark.parametrize("n_targets", [2, 3])
def test_baselines_are_set_apart_on_the_sides_where_they_are(n_targets):
    names = ["a", "b", "element"]
    matrix = pd.DataFrame(np.full((3, n_targets), 0.5), names, names[:n_targets])
    across, *down = error_heat_maps({"GFRE": matrix}, n_models=2).axes[0].lines
    assert list(across.get_ydata()) == [2, 2]
    assert [list(line.get_xdata()) for line in down] == [[2, 2]] * (n_targets - 2)
    assert not error_heat_maps({"GFRE": matrix}).axes[0].lines


def test_panels_do_not_print_over_each_other():
    names = ["a-model-of-a-long-name", "another-one", "element"]
    matrix = pd.DataFrame(np.full((3, 3), 1.5), names, names)
    figure = error_heat_maps(dict.fromkeys(("GFRE", "LFRE"), matrix), uneven=names[:1])
    figure.canvas.draw()
    first, second, bar, _ = (axis.get_tightbbox() for axis in figure.axes)
    assert second.y1 < min(first.y0, bar.y0) + 2  # pixels


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
    axis = error_per_target(MATRIX, FAMILIES, BASELINES).axes[0]
    marks = {m.get_label(): pd.Series(m.get_xdata(), m.get_ydata()) for m in axis.lines}
    assert marks[TWIN].to_dict() == MATRIX.loc["a-random", ["a1", "a2"]].to_dict()
    element = MATRIX.loc["element", ["a1", "a2", "b"]].clip(upper=1)
    assert marks["element"].to_dict() == element.to_dict()
