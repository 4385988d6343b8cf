"""Heat maps of errors between all pairs."""

from collections.abc import Collection, Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from .style import finish

MAX_ANNOTATED = 16  # columns of a matrix whose numbers can still be read


def error_heat_maps(
    matrices: Mapping[str, pd.DataFrame],
    *,
    marked: Mapping[str, pd.DataFrame] | None = None,
    n_models: int | None = None,
    alike: Collection[str] = (),
    uneven: Collection[str] = (),
) -> plt.Figure:
    """Errors between 0 and 1, or measures of likeness, a panel for each metric.

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
        Titles of those in which a larger number means more alike.
    uneven
        Names of features whose variance a few structures carry: they get a dagger.

    Examples
    --------
    >>> matrix = pd.DataFrame([[0.0, 1.2], [0.4, 0.0]], ["a", "b"], ["a", "b"])
    >>> figure = error_heat_maps({"GFRE": matrix}, marked={"GFRE": matrix > 1}, uneven=["b"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.00', '1.20*', '0.40', '0.00']
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['a', 'b †']
    """
    one = next(iter(matrices.values()))
    n_sources, n_targets = one.shape
    names = 0.09 * max(map(len, [*one.index, *one.columns]))  # inches
    width, height = min(2.7 + names + 0.62 * n_targets, 13), min(1.5 + names + 0.55 * n_sources, 11)
    look = {"layout": "constrained", "gridspec_kw": {"hspace": 0.05}, "squeeze": False}
    figure, axes = plt.subplots(len(matrices), figsize=(width, height * len(matrices)), **look)
    errors = sns.color_palette("viridis_r", as_cmap=True).with_extremes(over="black")
    daggers = {name: f"{name} †" for name in uneven}
    look = {"vmin": 0, "vmax": 1, "square": True, "xticklabels": True, "yticklabels": True}
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        worse = (marked or {}).get(title, matrix.isin([]))
        text = matrix.map("{:.2f}".format if n_targets <= MAX_ANNOTATED else lambda _: "")
        look |= {"annot": text.where(~worse, text + "*"), "fmt": "", "annot_kws": {"size": 9}}
        bar = {"label": "error, black above 1", "shrink": 0.8, "extend": "max"}
        if title in alike:
            bar |= {"label": "similarity", "extend": "neither"}
        look |= {"cmap": "viridis" if title in alike else errors, "cbar_kws": bar}
        sns.heatmap(matrix.rename(index=daggers, columns=daggers), ax=axis, **look)
        for line, n in ((axis.axhline, n_sources), (axis.axvline, n_targets)):
            if n_models and n_models < n:
                line(n_models, color="white", linewidth=3)
        stars = "\n* not below the mean of the same neighbours" if worse.any(axis=None) else ""
        few = "\n† a few structures carry the variance" if {*uneven} & {*one.index, *one} else ""
        axis.set(title=title, xlabel=f"target{stars}{few}", ylabel="source")
        axis.grid(visible=False)
        axis.tick_params(axis="x", rotation=90)
        axis.tick_params(axis="y", rotation=0)
    return finish(figure)
