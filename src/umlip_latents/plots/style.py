"""One look for all figures, and how they are labelled and written."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ..resources import atomic_write

# Okabe and Ito's colour-blind safe palette without its black and yellow, which vanish on dark or
# light pages
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999", "#882255")
# one colour for one family through the whole book; baselines are grey
FAMILY_COLOURS = {
    "CHGNet": "#0072B2",
    "SevenNet": "#B87A00",
    "Nequix": "#009E73",
    "TensorNet": "#D55E00",
    "M3GNet": "#B8558F",
    "DIEP": "#3B93C4",
    "QET": "#7A5C00",
    "MACE": "#882255",
    "baseline": "#666666",
    "SOAP": "#666666",
}


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


def family_colours(families: Mapping[str, str]) -> dict[str, str]:
    """A colour for each of some families, the same in all figures.

    Parameters
    ----------
    families
        Name of a model to its family.

    Examples
    --------
    >>> family_colours({"7net-0": "SevenNet", "mine": "other"})
    {'SevenNet': '#B87A00', 'other': '#222222'}
    """
    return {f: FAMILY_COLOURS.get(f, "#222222") for f in families.values()}


def colour_names(axis: plt.Axes, families: Mapping[str, str]) -> None:
    """Give the labels of the rows, which begin with a model's name, the colours of its family.

    Examples
    --------
    >>> axis = plt.subplots()[1]
    >>> _ = axis.set_yticks([0], ["7net-0"])
    >>> colour_names(axis, {"7net-0": "SevenNet"})
    >>> axis.get_yticklabels()[0].get_color()
    '#B87A00'
    """
    for label in axis.get_yticklabels():
        family = families.get(label.get_text().partition(" ")[0], "")
        label.set_color(FAMILY_COLOURS.get(family, "#222222"))


def finish(figure: plt.Figure) -> plt.Figure:
    """Take a figure off pyplot's list, or a notebook would show it a second time.

    Examples
    --------
    >>> figure = finish(plt.figure())
    >>> plt.fignum_exists(figure.number)
    False
    """
    plt.close(figure)
    return figure


def label_axes(axis: plt.Axes, **labels: str) -> plt.Figure:
    """Label the axes, move their legend above them, and return the figure.

    Parameters
    ----------
    axis
        Of the figure.
    **labels
        What `matplotlib.axes.Axes.set` takes, such as ``xlabel``.

    Examples
    --------
    >>> label_axes(plt.subplots()[1], xlabel="order", ylabel="GFRE").axes[0].get_xlabel()
    'order'
    """
    axis.set(**labels)
    if legend := axis.get_legend():
        short = max(len(text.get_text()) for text in legend.get_texts()) < 30
        look = {"bbox_to_anchor": (0, 1), "ncols": 1 + short, "frameon": False, "title": None}
        sns.move_legend(axis, "lower left", **look)
    return finish(axis.figure)


def plain_log_ticks(axis: Axis) -> None:
    """A logarithmic axis with ticks such as 0.5 and 2, not powers of ten alone.

    Examples
    --------
    >>> axis = plt.subplots()[1]
    >>> _ = axis.set(xscale="log", xlim=(0.4, 3))
    >>> plain_log_ticks(axis.xaxis)
    >>> 0.5 in axis.get_xticks()
    True
    """
    low, high = axis.get_view_interval()
    steps = (1, 3) if high > 30 * low else (1, 1.5, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=steps) if high > 3 * low else MaxNLocator(5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def save_figure(figure: plt.Figure, path: Path) -> None:
    """Write a figure, its text as text, in the format that the file's ending names.

    Parameters
    ----------
    figure
        Any.
    path
        Ends in ``.svg``, ``.pdf``, ``.png`` or whatever else matplotlib writes.

    Raises
    ------
    InputError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(plt.Figure(), Path(folder, "empty.svg"))
    ...     Path(folder, "empty.svg").read_text()[:5]
    '<?xml'
    """
    with plt.rc_context({"svg.fonttype": "none"}), atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], bbox_inches="tight")
