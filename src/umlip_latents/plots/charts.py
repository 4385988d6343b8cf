"""Intervals, and two numbers of every model on one line."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from .style import colour_names, label_axes, plain_log_ticks


def interval_plot(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """Ratios with their intervals: a row per level, a colour per direction, a line at 1.

    Parameters
    ----------
    table
        ``aspect``, ``level``, ``direction``, ``ratio``, ``ratio_low`` and ``ratio_high``. Rows
        stand in the order in which they come.
    xlabel
        Of the axis.

    Examples
    --------
    >>> about = {"aspect": "data", "level": "half", "direction": ["base to level", "level to base"]}
    >>> table = pd.DataFrame({**about, "ratio": [1.2, 2.0], "ratio_low": 1.0, "ratio_high": 3.0})
    >>> axis = interval_plot(table, xlabel="ratio").axes[0]
    >>> [label.get_text() for label in axis.get_yticklabels()]
    ['data: half']
    """
    places, rows = pd.factorize(table["aspect"] + ": " + table["level"])
    _, axis = plt.subplots(figsize=(7.5, 1.4 + 0.3 * len(rows)))
    axis.axvline(1, color="0.5", linestyle="--", linewidth=1)
    directions = table.assign(place=places).groupby("direction", sort=False)
    for shift, (direction, part) in zip((-0.13, 0.13, 0.3), directions, strict=False):
        reach = part[["ratio_low", "ratio_high"]].sub(part["ratio"], axis=0).abs().T
        axis.errorbar(part["ratio"], part["place"] + shift, xerr=reach, fmt="o", label=direction)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xscale("log")
    plain_log_ticks(axis.xaxis)
    axis.legend()
    return label_axes(axis, xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))


def paired_dots(
    table: pd.DataFrame, hollow: str, full: str, families: Mapping[str, str], **labels: object
) -> Figure:
    """Two numbers of every model on one line: a hollow dot and a full one.

    Parameters
    ----------
    table
        A row per model, indexed by name; they stand from top to bottom.
    hollow, full
        Columns, which name the dots in the legend.
    families
        Name of a model to its family, which sets the colour.
    **labels
        ``xlabel`` and ``xlim`` of the axis.

    Examples
    --------
    >>> table = pd.DataFrame({"last": [3.0], "backbone": [20.0]}, ["7net-0"])
    >>> figure = paired_dots(table, "last", "backbone", {"7net-0": "SevenNet"}, xlabel="number")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['7net-0']
    """
    places = range(len(table))
    _, axis = plt.subplots(figsize=(7, 1.3 + 0.24 * len(table)))
    axis.set_yticks(places, table.index, fontsize=10)
    colour_names(axis, families)
    colours = [label.get_color() for label in axis.get_yticklabels()]
    axis.hlines(places, table[hollow], table[full], colors=colours, alpha=0.5)
    axis.scatter(table[hollow], places, c="white", edgecolors=colours, label=hollow, zorder=2)
    axis.scatter(table[full], places, c=colours, label=full, zorder=2)
    axis.legend()
    return label_axes(axis, ylim=(len(table) - 0.4, -0.6), **labels)
