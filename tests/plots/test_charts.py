"""Figures that can be read: ticks that do not crowd, baselines set apart."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from umlip_latents.plots.matrices import error_heat_maps
from umlip_latents.plots.style import plain_log_ticks


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
