"""A coloured periodic table."""

from collections.abc import Collection, Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from ase.data import chemical_symbols
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..resources import InputError
from .style import PALETTE, finish

SYMBOLS = chemical_symbols[1:119]
NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)  # the last atomic number of each period


def table_cell(number: int) -> tuple[int, int]:
    """Row and column of an element, from 1; La to Lu and Ac to Lr stand in rows 9 and 10.

    Parameters
    ----------
    number
        Atomic number, 1 to 118.

    Examples
    --------
    >>> [table_cell(z) for z in (1, 2, 26, 57, 71, 72)]
    [(1, 1), (1, 18), (4, 8), (9, 3), (9, 17), (6, 4)]
    """
    period = int(np.searchsorted(NOBLE_GASES, number))
    place, length = number - NOBLE_GASES[period - 1], NOBLE_GASES[period] - NOBLE_GASES[period - 1]
    if length == 32 and 3 <= place <= 17:
        return period + 3, place
    return period, place if place < min(3, length) else place + 18 - length


def periodic_table(
    values: Mapping[str, float], *, label: str, framed: Collection[str] = ()
) -> Figure:
    """The periodic table, its cells coloured by a number; grey where there is none.

    Parameters
    ----------
    values
        Symbol to a number of 0 or more, which is printed with two digits, ``.37`` or ``1.2``.
    label
        What the numbers are, with their unit.
    framed
        Symbols whose cell gets a frame.

    Raises
    ------
    InputError
        No number at all, one that is not finite, or a symbol that is no element's.

    Examples
    --------
    >>> figure = periodic_table({"O": 0.368, "Fe": 1.24}, label="error", framed=["Fe"])
    >>> [text.get_text() for text in figure.axes[0].texts if "\\n" in text.get_text()]
    ['O\\n.37', 'Fe\\n1.2']
    """
    bad = [s for s in values if s not in SYMBOLS or not np.isfinite(values[s])]
    if bad or not values:
        raise InputError(f"A periodic table cannot show {', '.join(bad) or 'nothing'}.")
    cells, notes = np.full((2, 10, 18), np.nan), np.full((2, 10, 18), "", dtype=object)
    _, axis = plt.subplots(figsize=(7.2, 5.6))
    for number, symbol in enumerate(SYMBOLS, 1):
        row, column = np.subtract(table_cell(number), 1)
        value = values.get(symbol)
        at = int(value is not None), row, column
        cells[at] = value or 0
        text = "" if value is None else f"\n{value:.{2 - (value >= 0.995)}f}"
        notes[at] = symbol + text.replace("\n0", "\n")
        if symbol in framed:
            look = {"fill": False, "edgecolor": PALETTE[3], "linewidth": 3, "zorder": 3}
            axis.add_patch(Rectangle((column, row), 1, 1, **look))
    same = {"fmt": "", "linewidths": 1, "annot_kws": {"size": 11.5}, "ax": axis}
    sns.heatmap(cells[0], annot=notes[0], cmap=["0.93"], cbar=False, **same)
    bar = {"label": label, "orientation": "horizontal", "aspect": 40, "pad": 0.02}
    sns.heatmap(cells[1], annot=notes[1], cmap="viridis_r", cbar_kws=bar, **same)
    axis.set_axis_off()
    return finish(axis.figure)
