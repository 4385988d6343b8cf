"""Figures that can be read: ticks that do not crowd, baselines set apart."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from umlip_latents.figures import effect_intervals, error_heat_maps, lines, plain_numbers


@pytest.mark.parametrize("high", [1.1, 1.6, 4, 20, 100, 3000])
def test_logarithmic_axes_have_a_few_plain_ticks(high):
    figure, axis = plt.subplots()
    axis.set_xscale("log")
    axis.set_xlim(1, high)
    plain_numbers(axis.xaxis)
    figure.canvas.draw()
    inside = [tick for tick in axis.get_xticks() if 1 <= tick <= high]
    plt.close(figure)
    assert 3 <= len(inside) <= 9


def test_a_map_need_not_have_the_baselines_as_targets():
    matrix = pd.DataFrame(np.full((3, 2), 0.5), ["a", "b", "element"], ["a", "b"])
    (axis, _) = error_heat_maps({"GFRE": matrix}, n_models=2).axes
    (line,) = axis.lines  # below the models; none to their right
    assert list(line.get_ydata()) == [2, 2]


def test_rows_of_intervals_do_not_run_into_each_other():
    rows = [
        {"aspect": "data", "level": level, "direction": way, "ratio": 1.0}
        for level in "ab"
        for way in ("element", "soap", "twin", "family", "version", "seed")
    ]
    table = pd.DataFrame(rows).assign(ratio_low=0.9, ratio_high=1.2)
    axis = effect_intervals(table, xlabel="ratio").axes[0]
    points = sorted(float(y) for bars in axis.containers for y in bars.lines[0].get_ydata())
    assert min(points[6:]) - max(points[:6]) > 0.2  # the rows are 1 apart
    assert len(set(points)) == len(rows)


def test_baselines_are_set_apart_on_both_sides():
    names = ["a", "b", "element"]
    matrix = pd.DataFrame(np.full((3, 3), 0.5), names, names)
    axis = error_heat_maps({"GFRE": matrix}, n_models=2).axes[0]
    across, down = (line.get_data() for line in axis.lines)
    assert list(across[1]) == list(down[0]) == [2, 2]
    assert not error_heat_maps({"GFRE": matrix}).axes[0].lines


def test_a_line_may_be_logarithmic():
    table = pd.DataFrame({"epoch": [1, 2, 3], "error": [1.0, 10.0, 100.0], "model": ["a"] * 3})
    for logy, scale in ((True, "log"), (False, "linear")):
        figure = lines(table, "epoch", "error", "model", xlabel="e", ylabel="error", logy=logy)
        assert figure.axes[0].get_yscale() == scale
