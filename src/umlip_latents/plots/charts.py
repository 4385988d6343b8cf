"""The numbers of every model in a row of its own."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .style import colour_names, family_colours, label_axes

TWIN = "untrained twin"  # a network of the target's own family with random weights
MARKERS = {"element": "|", "symmetry-functions": "^", "soap": "D", TWIN: "s"}
HOLLOW = {"fillstyle": "none", "color": "0.15", "markeredgewidth": 1.5, "markersize": 8}


def paired_dots(
    table: pd.DataFrame, hollow: str, full: str, families: Mapping[str, str], **labels: object
) -> plt.Figure:
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


def error_per_target(
    matrix: pd.DataFrame, families: Mapping[str, str], baselines: Sequence[str] = ()
) -> plt.Figure:
    """A row per model: a dot for each source of another family, their mean as a bar, baselines.

    The rows of one family stand together, families and rows in the order of their means. What
    exceeds 1 is drawn at 1.

    Parameters
    ----------
    matrix
        Errors between all names: row = source, column = target.
    families
        Name to family, of models and baselines; it sets the colour of a dot and of a row's name.
    baselines
        Names that are no models. One of a model's family is its untrained twin, and is drawn in
        the rows of this family alone.

    Examples
    --------
    >>> matrix = pd.DataFrame({"a": [0, 0.5, 0.7], "b": [0.4, 0, 0.6]}, ["a", "b", "element"])
    >>> families = {"a": "CHGNet", "b": "MACE", "element": "baseline"}
    >>> figure = error_per_target(matrix, families, ["element"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['b', 'a']
    """
    models = [name for name in matrix if name not in baselines]
    family = np.array([families[name] for name in models])
    others = matrix.loc[models, models].where(np.not_equal.outer(family, family))
    table = pd.DataFrame({"mean": others.mean(), "family": family})
    table["rank"] = table.groupby("family")["mean"].transform("mean")
    rows = table.sort_values(["rank", "family", "mean"]).index
    _, axis = plt.subplots(figsize=(6.8, 1.7 + 0.27 * len(rows)))
    axis.barh(rows, table.loc[rows, "mean"], height=0.7, color="0.9", zorder=0)
    colours, dot = family_colours(families), {"s": 22, "alpha": 0.8, "linewidth": 0}
    for source, errors in others.iterrows():
        known = errors.dropna().clip(upper=1)
        axis.scatter(known, known.index, color=colours[families[source]], **dot)
    for name in baselines:
        twin = rows.map(families) == families[name]
        own, kind = (rows[twin], TWIN) if twin.any() else (rows, name)
        errors = matrix.loc[name, own].clip(upper=1)
        axis.plot(errors, own, MARKERS.get(kind, "P"), label=kind, **HOLLOW)
    marks, kinds = axis.get_legend_handles_labels()
    if kinds:
        one_of_each = dict(zip(kinds, marks, strict=True))
        axis.legend(one_of_each.values(), one_of_each.keys())
    colour_names(axis, families)
    axis.grid(visible=False, axis="y")
    return label_axes(axis, xlim=(0, 1.01), ylim=(len(rows) - 0.4, -0.6), xlabel="GFRE")
