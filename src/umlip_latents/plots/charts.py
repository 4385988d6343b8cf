"""Bars, lines and intervals."""

from collections.abc import Mapping
from itertools import cycle
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import GUIDE_LINE, label_axes, plain_log_ticks

SEEDS = MappingProxyType({"between seeds": 1})  # a guide to compare with


def grouped_bars(table: pd.DataFrame, x: str, y: str, hue: str | None, **labels: str) -> Figure:
    """Bars of one quantity by model, coloured by a second label.

    Repeated rows give their mean and its 95 % interval, from a bootstrap with a fixed seed.

    Parameters
    ----------
    table
        In long form.
    x, y, hue
        Its columns: label and height, or length and label for horizontal bars, as many or long
        labels need; and what sets the colour.
    **labels
        ``xlabel`` and ``ylabel`` of the axes.

    Examples
    --------
    >>> table = pd.DataFrame({"model": ["a", "b"], "share": [0.4, 0.9]})
    >>> figure = grouped_bars(table, "model", "share", None, xlabel="model", ylabel="share")
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [0.4, 0.9]
    """
    horizontal = pd.api.types.is_numeric_dtype(table[x])
    height = 1.2 + 0.35 * table[y].nunique() if horizontal else 4
    _, axis = plt.subplots(figsize=(7.5, height))
    sns.barplot(table, x=x, y=y, hue=hue, seed=0, ax=axis)
    if not horizontal:
        plt.setp(axis.get_xticklabels(), rotation=25, ha="right", rotation_mode="anchor")
    return label_axes(axis, **labels)


def lines(
    table: pd.DataFrame, x: str, y: str, hue: str, *, style: str | None = None, **labels: str
) -> Figure:
    """One quantity along another, a line per label; repeated points give a mean and its band.

    Parameters
    ----------
    table
        In long form.
    x, y, hue, style
        Its columns: an integer such as order or epoch, height, and what sets colour and dashes.
    **labels
        ``xlabel`` and ``ylabel`` of the axes.

    Examples
    --------
    >>> table = pd.DataFrame({"order": [1, 2], "error": [0.5, 0.3], "model": ["a", "a"]})
    >>> figure = lines(table, "order", "error", "model", xlabel="order", ylabel="error")
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [0.5, 0.3]
    """
    _, axis = plt.subplots(figsize=(7.5, 4))
    semantics = {"hue": hue, "style": style or hue, "dashes": style is not None}
    sns.lineplot(table, x=x, y=y, markers=True, errorbar="sd", ax=axis, **semantics)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return label_axes(axis, **labels)


def interval_plot(
    table: pd.DataFrame, *, xlabel: str, x: str = "ratio", guide: Mapping[str, float] = SEEDS
) -> Figure:
    """Positive numbers with their intervals: a row per level, a colour per direction.

    Parameters
    ----------
    table
        ``aspect``, ``level``, ``direction`` and, for x = ``ratio``, the columns ``ratio``,
        ``ratio_low`` and ``ratio_high``. Rows stand in the order in which they come.
    xlabel
        Of the axis.
    x
        Column of the numbers.
    guide
        Name and value of the lines to compare with.

    Examples
    --------
    >>> about = {"aspect": "data", "level": "half", "direction": ["base to level", "level to base"]}
    >>> table = pd.DataFrame({**about, "ratio": [1.2, 2.0], "ratio_low": 1.0, "ratio_high": 3.0})
    >>> [t.get_text() for t in interval_plot(table, xlabel="ratio").axes[0].get_yticklabels()]
    ['data: half']
    """
    table = table.assign(row=table["aspect"].astype(str) + ": " + table["level"])
    place = {row: -i for i, row in enumerate(table["row"].unique())}
    directions = table.groupby("direction", sort=False)
    n = len(directions)
    # the labels leave the axis its room, the rows their points
    width, height = 4.5 + 0.09 * max(map(len, place)), 1.4 + (0.2 + 0.05 * n) * len(place)
    _, axis = plt.subplots(figsize=(max(6.5, width), height))
    for label, value in guide.items():
        axis.axvline(value, label=label, **GUIDE_LINE)
    shifts = min(0.13, 0.35 / n) * np.arange(n - 1, -n, -2)
    for (direction, part), shift, marker in zip(directions, shifts, cycle("osD^"), strict=False):
        reach = np.abs(part[[f"{x}_low", f"{x}_high"]].sub(part[x], axis=0)).T
        look = {"fmt": marker, "markersize": 5, "linewidth": 1.3}
        axis.errorbar(part[x], part["row"].map(place) + shift, xerr=reach, label=direction, **look)
    axis.set_yticks(list(place.values()), list(place))
    axis.set_ylim(0.5 - len(place), 0.5)
    axis.set_xscale("log")
    plain_log_ticks(axis.xaxis)
    axis.legend()
    return label_axes(axis, xlabel=xlabel)
