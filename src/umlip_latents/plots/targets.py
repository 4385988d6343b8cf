"""How well each model is rebuilt by the others, and by baselines."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import colour_names, family_colours, finish

TWIN = "untrained\ntwin"  # a network of the target's own family with random weights
MARKERS = (("|", 12), ("^", 8), ("D", 7), ("s", 8), ("P", 8))  # and their sizes


def error_per_target(
    matrix: pd.DataFrame,
    families: Mapping[str, str],
    baselines: Sequence[str] = (),
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Figure:
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
    labels
        What to call a baseline in the figure; by default its name.

    Examples
    --------
    >>> matrix = pd.DataFrame({"a": [0, 0.5, 0.7], "b": [0.4, 0, 0.6]}, ["a", "b", "element"])
    >>> families = {"a": "CHGNet", "b": "MACE", "element": "baseline"}
    >>> figure = error_per_target(matrix, families, ["element"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['b', 'a']
    """
    models = [name for name in matrix.columns if name not in baselines]
    family = np.array([families[name] for name in models])
    others = matrix.loc[models, models].where(np.not_equal.outer(family, family))
    table = pd.DataFrame({"mean": others.mean(), "family": family})
    table["rank"] = table.groupby("family")["mean"].transform("mean")
    rows = [*table.sort_values(["rank", "family", "mean"]).index]
    figure, axis = plt.subplots(figsize=(6.8, 1.7 + 0.27 * len(rows)))
    axis.barh(range(len(rows)), table.loc[rows, "mean"], height=0.7, color="0.9", zorder=0)
    look = {"s": 22, "alpha": 0.8, "linewidth": 0, "zorder": 2}
    look["c"] = [*map(family_colours(families).get, family)]
    for y, target in enumerate(rows):
        axis.scatter(others[target].clip(upper=1), np.full(len(others), y), **look)
    draw_baselines(axis, baseline_errors(matrix, families, baselines, rows, labels))
    axis.set_yticks(range(len(rows)), rows)
    colour_names(axis, families)
    axis.set(xlim=(0, 1.01), ylim=(len(rows) - 0.4, -0.6), xlabel="GFRE")
    axis.grid(visible=False, axis="y")
    return finish(figure)


def baseline_errors(
    matrix: pd.DataFrame,
    families: Mapping[str, str],
    baselines: Sequence[str],
    targets: Sequence[str],
    labels: Mapping[str, str],
) -> pd.DataFrame:
    """(n_targets, n_kinds) errors of the baselines, those of all untrained twins in one column."""
    table, known = pd.DataFrame(index=targets), {families[target] for target in targets}
    for name in baselines:
        kind = TWIN if families[name] in known else labels.get(name, name)
        own = [t for t in targets if kind != TWIN or families[t] == families[name]]
        table.loc[own, kind] = matrix.loc[name, own]
    return table


def draw_baselines(axis: Axes, table: pd.DataFrame) -> None:
    """Grey marks, a shape for each kind, which are named above the first row that has them."""
    look = {"markerfacecolor": "none", "markeredgecolor": "0.15", "markeredgewidth": 1.5}
    table = table.clip(upper=1)
    for kind, (marker, size) in zip(table, cycle(MARKERS), strict=False):
        axis.plot(table[kind], range(len(table)), marker, markersize=size, **look)
    first = {kind: (table[kind].dropna().iloc[0], table[kind].notna().argmax()) for kind in table}
    places = np.linspace(0, 1, 2 * len(first) + 1)[1::2]
    line = {"arrowstyle": "-", "color": "0.6", "shrinkB": 4, "linewidth": 0.8}
    words = {"ha": "center", "va": "bottom", "fontsize": 10, "color": "0.15"}
    for kind, x in zip(sorted(first, key=first.get), places, strict=True):
        axis.annotate(kind, first[kind], (x, -1), arrowprops=line, annotation_clip=False, **words)
