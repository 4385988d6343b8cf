"""Every plot of the book, one function per kind."""

from collections.abc import Mapping
from itertools import cycle
from textwrap import fill
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

# Okabe and Ito's colour-blind safe palette without its black and yellow, which vanish on dark or
# light pages
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999", "#882255")
GUIDE = {"color": "0.5", "linestyle": "--", "linewidth": 1}  # lines to compare with


def use_style() -> None:
    """One look for all figures: an opaque light ground, so that they read in a dark theme too.

    Examples
    --------
    >>> use_style()
    >>> plt.rcParams["savefig.facecolor"]
    'white'
    """
    rc = {"figure.dpi": 110, "savefig.facecolor": "white", "figure.constrained_layout.use": True}
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE, rc=rc)


def finished(figure: Figure) -> Figure:
    """Take a figure off pyplot's list, or a notebook would show it a second time.

    Examples
    --------
    >>> figure = finished(plt.figure())
    >>> plt.fignum_exists(figure.number)
    False
    """
    plt.close(figure)
    return figure


def labelled(axis: Axes, **labels: str) -> Figure:
    """A figure whose axis gets its labels, and its legend, if it has one, room above it.

    Examples
    --------
    >>> labelled(plt.subplots()[1], xlabel="order", ylabel="GFRE").axes[0].get_xlabel()
    'order'
    """
    axis.set(**labels)
    if legend := axis.get_legend():
        short = max(len(text.get_text()) for text in legend.get_texts()) < 30
        look = {"bbox_to_anchor": (0, 1), "ncols": 1 + short, "frameon": False, "title": None}
        sns.move_legend(axis, "lower left", **look)
    return finished(axis.figure)


def plain_numbers(*directions: Axis) -> None:
    """Logarithmic axes with ticks such as 0.5 and 2, not powers of ten alone."""
    for axis in directions:
        low, high = axis.get_view_interval()
        steps = (1, 3) if high > 30 * low else (1, 1.5, 2, 3, 5, 7)
        axis.set_major_locator(LogLocator(subs=steps) if high > 3 * low else MaxNLocator(5))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


def error_heat_maps(
    matrices: Mapping[str, pd.DataFrame],
    *,
    marked: Mapping[str, pd.DataFrame] = MappingProxyType({}),
    n_models: int | None = None,
    alike: Mapping[str, str] = MappingProxyType({}),
    label: str = "reconstruction error",
    sides: tuple[str, str] = ("source", "target"),
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
    label, sides
        What all other numbers are, and what rows and columns are.

    Examples
    --------
    >>> matrix = pd.DataFrame([[0.0, 1.2], [0.4, 0.0]], ["a", "b"], ["a", "b"])
    >>> figure = error_heat_maps({"GFRE": matrix}, marked={"GFRE": matrix > 1})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.00', '1.20*', '0.40', '0.00']
    """
    n_sources, n_targets = next(iter(matrices.values())).shape
    readable = n_targets <= 16
    width, height = (3.0 + 0.62 * n_targets, 1.8 + 0.55 * n_sources) if readable else (11, 9.5)
    columns = 1 if n_targets > 4 else len(matrices)
    rows = len(matrices) // columns
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows))
    for axis, (title, matrix) in zip(np.ravel(axes), matrices.items(), strict=True):
        stars = marked.get(title, matrix < -np.inf)
        text = stars.map({True: "*", False: ""}.get)
        notes = ["* not below the mean of the same neighbours"] if stars.any(axis=None) else []
        bar = {"label": alike.get(title, label), "shrink": 0.8}
        colours = sns.color_palette("viridis" if title in alike else "viridis_r", as_cmap=True)
        if title not in alike and (matrix > 1).any(axis=None):
            notes.append("black: above 1")
            bar["extend"] = "max"
        sns.heatmap(
            matrix,
            ax=axis,
            vmin=0,
            vmax=1,
            cmap=colours.with_extremes(over="black"),
            annot=matrix.map("{:.2f}".format) + text if readable else text,
            fmt="",
            annot_kws={"size": 9},
            square=True,
            cbar_kws=bar,
            xticklabels=True,
            yticklabels=True,
        )
        axis.set(title=title, xlabel="\n".join([sides[1], *notes]), ylabel=sides[0])
        axis.grid(visible=False)
        axis.tick_params(axis="x", rotation=90)
        axis.tick_params(axis="y", rotation=0)
        if n_models and n_models < len(matrix):
            axis.axhline(n_models, color="white", linewidth=3)
        if n_models and n_models < n_targets:
            axis.axvline(n_models, color="white", linewidth=3)
    return finished(figure)


def grouped_bars(table: pd.DataFrame, x: str, y: str, hue: str | None, **labels: str) -> Figure:
    """Bars of one quantity by model, coloured by a second label.

    Parameters
    ----------
    table
        In long form.
    x, y, hue
        Its columns: label and height, or length and label for bars that lie, as many or long
        labels need; and what is coloured.
    **labels
        ``xlabel`` and ``ylabel`` of the axes.

    Examples
    --------
    >>> table = pd.DataFrame({"model": ["a", "b"], "share": [0.4, 0.9]})
    >>> figure = grouped_bars(table, "model", "share", None, xlabel="model", ylabel="share")
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [0.4, 0.9]
    """
    lying = pd.api.types.is_numeric_dtype(table[x])
    height = 1.2 + 0.35 * table[y].nunique() if lying else 4
    _, axis = plt.subplots(figsize=(7.5, height))
    sns.barplot(table, x=x, y=y, hue=hue, ax=axis)
    if not lying:
        plt.setp(axis.get_xticklabels(), rotation=25, ha="right", rotation_mode="anchor")
    return labelled(axis, **labels)


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    *,
    style: str | None = None,
    logy: bool = False,
    **labels: str,
) -> Figure:
    """One quantity along another, a line per label; repeated points give a mean and its band.

    Parameters
    ----------
    table
        In long form.
    x, y, hue, style
        Its columns: an integer such as order or epoch, height, and what colour and dashes tell.
    logy
        A logarithmic ordinate.
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
    told = {"hue": hue, "style": style or hue, "dashes": style is not None}
    sns.lineplot(table, x=x, y=y, markers=True, errorbar="sd", ax=axis, **told)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if logy:
        axis.set_yscale("log")
        plain_numbers(axis.yaxis)
    return labelled(axis, **labels)


def distributions(
    values: Mapping[str, np.ndarray], *, xlabel: str, ylabel: str = "share of atoms below"
) -> Figure:
    """Cumulative distributions of a per-atom quantity, one line per model.

    Parameters
    ----------
    values
        Name to (n_atoms,).
    xlabel, ylabel
        Of the axes.

    Examples
    --------
    >>> figure = distributions({"a": np.arange(4), "b": np.arange(9)}, xlabel="norm")
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['a', 'b']
    """
    _, axis = plt.subplots(figsize=(7.5, 3.8))
    sns.ecdfplot(dict(values), ax=axis)
    return labelled(axis, xlabel=xlabel, ylabel=ylabel)


def structure_maps(
    maps: Mapping[str, np.ndarray], labels: np.ndarray, *, legend: str, xlabel: str, ylabel: str
) -> Figure:
    """Two-dimensional maps, one panel per model, points coloured by a label or a number.

    Parameters
    ----------
    maps
        Title to (n_structures, 2).
    labels
        (n_structures,) of text, which sets colour and marker, or of numbers, which set the colour.
    legend
        What the labels are.
    xlabel, ylabel
        Of the axes.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(3, 2))
    >>> about = {"legend": "subset", "xlabel": "first", "ylabel": "second"}
    >>> figure = structure_maps({"a": points, "b": points}, np.array(["x", "y", "x"]), **about)
    >>> [axis.get_title() for axis in figure.axes]
    ['a', 'b']
    """
    label = fill(legend, 18)
    points = {title: pd.DataFrame(p, columns=[xlabel, ylabel]) for title, p in maps.items()}
    table = pd.concat(points, names=["title"]).reset_index("title")
    look = {"hue": label, "height": 4, "s": 22, "linewidth": 0.2, "col_wrap": min(2, len(maps))}
    look |= {"palette": "viridis"} if labels.dtype.kind in "fi" else {"style": label}
    look["facet_kws"] = {"sharex": False, "sharey": False}
    table[label] = np.tile(labels, len(maps))
    grid = sns.relplot(table, x=xlabel, y=ylabel, col="title", **look)
    return finished(grid.set_titles("{col_name}").figure)


def against_diagonal(table: pd.DataFrame, x: str, y: str, hue: str, **labels: str) -> Figure:
    """Two versions of the same error against each other on logarithmic axes, with equality.

    Parameters
    ----------
    table
        A row per point.
    x, y, hue
        Its columns: both versions, and a label.
    **labels
        ``xlabel`` and ``ylabel`` of the axes.

    Examples
    --------
    >>> table = pd.DataFrame({"atom": [0.1, 0.2], "structure": [0.2, 0.4], "metric": "GFRE"})
    >>> columns = "atom", "structure", "metric"
    >>> figure = against_diagonal(table, *columns, xlabel="by atom", ylabel="by structure")
    >>> figure.axes[0].lines[-1].get_xdata().tolist()
    [0.1, 0.4]
    """
    axis = scatter(table, x, y, hue)
    ends = table[[x, y]].min(axis=None), table[[x, y]].max(axis=None)
    axis.plot(ends, ends, **GUIDE)
    axis.set(xscale="log", yscale="log")
    plain_numbers(axis.xaxis, axis.yaxis)
    return labelled(axis, **labels)


def about_zero(table: pd.DataFrame, x: str, y: str, hue: str, **labels: str) -> Figure:
    """Points coloured and marked by a label, with the axes' zero lines.

    Parameters
    ----------
    table, x, y, hue, **labels
        As in `against_diagonal`.

    Examples
    --------
    >>> table = pd.DataFrame({"gain": [-1.0, 2.0], "asymmetry": [0.5, -0.5], "aspect": "data"})
    >>> columns = "gain", "asymmetry", "aspect"
    >>> figure = about_zero(table, *columns, xlabel="gain", ylabel="asymmetry")
    >>> [line.get_linestyle() for line in figure.axes[0].lines[-2:]]
    ['--', '--']
    """
    axis = scatter(table, x, y, hue)
    axis.axhline(0, **GUIDE)
    axis.axvline(0, **GUIDE)
    return labelled(axis, **labels)


def scatter(table: pd.DataFrame, x: str, y: str, hue: str) -> Axes:
    """Points coloured and marked by a label, on axes to be `labelled`.

    Examples
    --------
    >>> axis = scatter(pd.DataFrame({"x": [1, 2], "y": [3, 4], "kind": "a"}), "x", "y", "kind")
    >>> axis.collections[0].get_offsets().tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    _, axis = plt.subplots(figsize=(6.4, 4.3))
    return sns.scatterplot(table, x=x, y=y, hue=hue, style=hue, s=55, ax=axis)


def effect_intervals(
    table: pd.DataFrame,
    *,
    xlabel: str,
    x: str = "ratio",
    guide: Mapping[str, float] = MappingProxyType({"between seeds": 1}),
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
    >>> [t.get_text() for t in effect_intervals(table, xlabel="ratio").axes[0].get_yticklabels()]
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
        axis.axvline(value, label=label, **GUIDE)
    shifts = min(0.13, 0.35 / n) * np.arange(n - 1, -n, -2)
    for (direction, part), shift, marker in zip(directions, shifts, cycle("osD^"), strict=False):
        reach = np.abs(part[[f"{x}_low", f"{x}_high"]].sub(part[x], axis=0)).T
        look = {"fmt": marker, "markersize": 5, "linewidth": 1.3}
        axis.errorbar(part[x], part["row"].map(place) + shift, xerr=reach, label=direction, **look)
    axis.set_yticks(list(place.values()), list(place))
    axis.set_ylim(0.5 - len(place), 0.5)
    axis.set_xscale("log")
    plain_numbers(axis.xaxis)
    axis.legend()
    return labelled(axis, xlabel=xlabel)
