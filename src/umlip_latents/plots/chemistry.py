"""A coloured periodic table."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from pymatgen.util.plotting import periodic_table_heatmap

from .style import finish


def periodic_table(values: Mapping[str, float], *, label: str) -> plt.Figure:
    """The periodic table, its cells coloured by a number; grey where there is none.

    Parameters
    ----------
    values
        Symbol to a number, which is printed with two decimals.
    label
        What the numbers are, with their unit.

    Examples
    --------
    >>> axis, _ = periodic_table({"O": 0.368, "Fe": 1.24}, label="error").axes
    >>> [text.get_text() for text in axis.texts if "." in text.get_text()]
    ['0.37', '1.24']
    """
    look = {"cmap": "viridis_r", "blank_color": "0.93", "readable_fontcolor": True}
    look |= {"value_format": "%.2f", "value_fontsize": 14, "symbol_fontsize": 17}
    with plt.rc_context({"figure.constrained_layout.use": False}):  # it asks for a tight one
        axis = periodic_table_heatmap(values, label, pymatviz=False, **look)
    return finish(axis.figure)
