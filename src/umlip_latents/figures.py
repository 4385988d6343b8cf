"""Every plot of the book, one function per kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .resources import InputError, written_whole

# Okabe and Ito's colour-blind safe palette without its black and yellow, which vanish on dark or
# light pages
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999", "#882255")


def use_style() -> None:
    """One look for all figures: an opaque light ground, so that they read in a dark theme too."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette=PALETTE,
        rc={"figure.dpi": 110, "savefig.facecolor": "white", "figure.constrained_layout.use": True},
    )


def finished(figure: Figure) -> Figure:
    """Take a figure off pyplot's list, or a notebook would show it a second time."""
    plt.close(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, its text as text, in the format that the file's ending names."""
    try:
        with plt.rc_context({"svg.fonttype": "none"}), written_whole(path) as temporary:
            figure.savefig(temporary)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}).") from None


def error_heat_maps(
    matrices: Mapping[str, pd.DataFrame],
    *,
    marked: Mapping[str, pd.DataFrame] = MappingProxyType({}),
    n_models: int | None = None,
) -> Figure:
    """Reconstruction errors, one panel per metric: row = source, column = target.

    Parameters
    ----------
    matrices
        Title to square matrix.
    marked
        Title to booleans: entries that do not beat their own baseline get an asterisk.
    n_models
        The names after so many are baselines, set apart by a line.
    """
    n = max(len(m) for m in matrices.values())
    readable = n <= 14  # numbers in the cells
    width, height = (3.0 + 0.62 * n, 1.8 + 0.55 * n) if readable else (11, 9.5)
    columns = 1 if n > 4 else len(matrices)
    rows = len(matrices) // columns
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows))
    for axis, (title, matrix) in zip(np.ravel(axes), matrices.items(), strict=True):
        stars = marked.get(title, matrix < -np.inf)
        text = matrix.map("{:.2f}".format) + stars.map({True: "*", False: ""}.get)
        over = (matrix > 1).any(axis=None)
        sns.heatmap(
            matrix,
            ax=axis,
            vmin=0,
            vmax=1,
            cmap="viridis_r",
            annot=text if readable else False,
            fmt="",
            annot_kws={"size": 8},
            square=True,
            cbar_kws={
                "label": "reconstruction error",
                "shrink": 0.8,
                "extend": "max" if over else "neither",
            },
            xticklabels=True,
            yticklabels=True,
        )
        note = "\n* not below the mean of the same neighbours" if stars.any(axis=None) else ""
        axis.set(title=title, xlabel=f"target{note}", ylabel="source")
        axis.tick_params(axis="x", rotation=90)
        axis.tick_params(axis="y", rotation=0)
        if n_models and n_models < len(matrix):
            axis.axhline(n_models, color="white", linewidth=3)
            axis.axvline(n_models, color="white", linewidth=3)
    return finished(figure)


def grouped_bars(
    table: pd.DataFrame, x: str, y: str, hue: str | None, *, xlabel: str, ylabel: str
) -> Figure:
    """Bars of one quantity by model, coloured by a second label."""
    figure, axis = plt.subplots(figsize=(8, 3.8))
    sns.barplot(table, x=x, y=y, hue=hue, ax=axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.tick_params(axis="x", rotation=25)
    if hue:
        sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1))
    return finished(figure)


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    *,
    xlabel: str,
    ylabel: str,
    style: str | None = None,
    logy: bool = False,
) -> Figure:
    """One quantity along another, a line per label; repeated points give a mean and its band."""
    figure, axis = plt.subplots(figsize=(7.5, 4))
    sns.lineplot(
        table, x=x, y=y, hue=hue, style=style, markers=True, dashes=style is not None,
        errorbar="sd", ax=axis, **({} if style else {"marker": "o"}),
    )  # fmt: skip
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))  # orders and epochs
    if logy:
        axis.set_yscale("log")
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1))
    return finished(figure)


def distributions(
    values: Mapping[str, np.ndarray], *, xlabel: str, ylabel: str = "share of atoms below"
) -> Figure:
    """Cumulative distributions of a per-atom quantity, one line per model."""
    figure, axis = plt.subplots(figsize=(7.5, 3.8))
    for name, value in values.items():
        sns.ecdfplot(x=value, label=name, ax=axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return finished(figure)


def structure_maps(
    maps: Mapping[str, np.ndarray], labels: np.ndarray, *, legend: str, xlabel: str, ylabel: str
) -> Figure:
    """Two-dimensional maps, one panel per model, points coloured and marked by label."""
    rows = -(-len(maps) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(8.4, 4 * rows))
    for axis in axes.flat[len(maps) :]:
        axis.set_axis_off()
    for axis, (title, points) in zip(axes.flat, maps.items(), strict=False):
        sns.scatterplot(
            x=points[:, 0],
            y=points[:, 1],
            hue=labels,
            style=labels,
            s=22,
            linewidth=0.2,
            ax=axis,
            legend=axis is axes.flat[len(maps) - 1],
        )
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    sns.move_legend(axes.flat[len(maps) - 1], "upper left", bbox_to_anchor=(1, 1), title=legend)
    return finished(figure)


def against_diagonal(
    table: pd.DataFrame, x: str, y: str, hue: str, *, xlabel: str, ylabel: str
) -> Figure:
    """Two versions of the same error against each other on logarithmic axes, with equality."""
    figure = scatter(table, x, y, hue, xlabel=xlabel, ylabel=ylabel)
    ends = table[[x, y]].to_numpy().min(), table[[x, y]].to_numpy().max()
    figure.axes[0].plot(ends, ends, color="0.5", linestyle="--", linewidth=1)
    figure.axes[0].set(xscale="log", yscale="log")
    return figure


def about_zero(
    table: pd.DataFrame, x: str, y: str, hue: str, *, xlabel: str, ylabel: str
) -> Figure:
    """Points coloured and marked by a label, with the axes' zero lines."""
    figure = scatter(table, x, y, hue, xlabel=xlabel, ylabel=ylabel)
    figure.axes[0].axhline(0, color="0.5", linestyle="--", linewidth=1)
    figure.axes[0].axvline(0, color="0.5", linestyle="--", linewidth=1)
    return figure


def scatter(table: pd.DataFrame, x: str, y: str, hue: str, *, xlabel: str, ylabel: str) -> Figure:
    """Points coloured and marked by a label."""
    figure, axis = plt.subplots(figsize=(6.4, 4.3))
    sns.scatterplot(table, x=x, y=y, hue=hue, style=hue, s=55, ax=axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1))
    return finished(figure)


def effect_intervals(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """Ratios to the seed floor with their intervals: a row per level, a colour per direction.

    Parameters
    ----------
    table
        ``aspect``, ``level``, ``direction``, ``ratio``, ``ratio_low`` and ``ratio_high``, the rows
        of an aspect together.
    """
    levels = table[["aspect", "level"]].drop_duplicates()
    place = {level: -i for i, level in enumerate(levels["level"])}
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.3 * len(place)))
    axis.axvline(1, color="0.5", linestyle="--", linewidth=1, label="between seeds")
    sides = zip(table.groupby("direction", sort=False), (0.13, -0.13), "os", strict=True)
    for (direction, part), shift, marker in sides:
        axis.errorbar(
            part["ratio"],
            part["level"].map(place) + shift,
            xerr=np.abs(part[["ratio_low", "ratio_high"]].sub(part["ratio"], axis=0)).T,
            fmt=marker,
            markersize=5,
            linewidth=1.3,
            label=direction,
        )
    axis.set_yticks(list(place.values()), [f"{f}: {lv}" for f, lv in levels.to_numpy()])
    axis.set(xlabel=xlabel, xscale="log")
    low, high = axis.get_xlim()
    ticks = [t for t in (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20) if low <= t <= high]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return finished(figure)
