"""Heat maps of errors between all pairs."""

from collections.abc import Mapping
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import finish

MAX_ANNOTATED = 16  # columns of a matrix whose numbers can still be read


def error_heat_maps(
    matrices: Mapping[str, pd.DataFrame],
    *,
    marked: Mapping[str, pd.DataFrame] = MappingProxyType({}),
    n_models: int | None = None,
    alike: Mapping[str, str] = MappingProxyType({}),
) -> Figure:
    """Errors between 0 and 1, or measures of likeness, one panel per metric.

    Light is alike. Errors above 1 are black. Up to 16 columns, each cell carries its number.

    Parameters
    ----------
    matrices
        Title to matrix, all of the same names; a cell without a number stays empty.
    marked
        Title to booleans: entries that do not beat their own baseline get an asterisk.
    n_models
        The names after so many are baselines, set apart by a line.
    alike
        Title to what the numbers are, where a larger one means more alike.

    Examples
    --------
    >>> matrix = pd.DataFrame([[0.0, 1.2], [0.4, 0.0]], ["a", "b"], ["a", "b"])
    >>> figure = error_heat_maps({"GFRE": matrix}, marked={"GFRE": matrix > 1})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.00', '1.20*', '0.40', '0.00']
    """
    n_sources, n_targets = next(iter(matrices.values())).shape
    width, height = min(3 + 0.62 * n_targets, 13), min(1.8 + 0.55 * n_sources, 11)
    columns = 1 if n_targets > 4 else len(matrices)
    rows = len(matrices) // columns
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows))
    for axis, (title, matrix) in zip(np.ravel(axes), matrices.items(), strict=True):
        draw_matrix(axis, matrix, marked.get(title), alike.get(title))
        axis.set_title(title)
        for line, n in ((axis.axhline, n_sources), (axis.axvline, n_targets)):
            if n_models and n_models < n:
                line(n_models, color="white", linewidth=3)
    return finish(figure)


def draw_matrix(
    axis: Axes, matrix: pd.DataFrame, marked: pd.DataFrame | None, alike: str | None
) -> None:
    """Draw one panel of `error_heat_maps`, with the notes that its reader needs."""
    notes, above = ["target"], not alike and (matrix > 1).any(axis=None)
    text = matrix.map("{:.2f}".format if matrix.shape[1] <= MAX_ANNOTATED else lambda _: "")
    if marked is not None and marked.any(axis=None):
        text = text.where(~marked, text + "*")
        notes.append("* not below the mean of the same neighbours")
    if above:
        notes.append("black: above 1")
    colours = sns.color_palette("viridis" if alike else "viridis_r", as_cmap=True)
    look = {"cmap": colours.with_extremes(over="black"), "vmin": 0, "vmax": 1, "square": True}
    look |= {"fmt": "", "annot_kws": {"size": 9}, "xticklabels": True, "yticklabels": True}
    bar = {"label": alike or "reconstruction error", "extend": "max" if above else "neither"}
    sns.heatmap(matrix, annot=text, cbar_kws={"shrink": 0.8, **bar}, ax=axis, **look)
    axis.set(xlabel="\n".join(notes), ylabel="source")
    axis.grid(visible=False)
    axis.tick_params(axis="x", rotation=90)
    axis.tick_params(axis="y", rotation=0)
