"""Pictures of chemistry: a coloured periodic table, drawings of the surroundings of an atom."""

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import neighbor_list
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from .figures import PALETTE, finished
from .resources import InputError

SYMBOLS = chemical_symbols[1:119]
NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # the last atomic number of each period


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
    period = int(np.searchsorted(NOBLE, number))
    place, length = number - NOBLE[period - 1], NOBLE[period] - NOBLE[period - 1]
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
    return finished(axis.figure)


def neighbourhood(atoms: Atoms, centre: int, cutoff: float) -> Atoms:
    """An atom, first and at the origin, and all atoms and periodic images inside a cutoff.

    Parameters
    ----------
    atoms
        A structure, periodic along any of its cell's vectors.
    centre
        Index of the atom.
    cutoff
        In angstrom.

    Returns
    -------
    ase.Atoms
        Without a cell, nearest first.

    Raises
    ------
    InputError
        There is no such atom.

    Examples
    --------
    >>> from ase.build import bulk
    >>> around = neighbourhood(bulk("NaCl", "rocksalt", a=5.64), 0, 3)
    >>> str(around.symbols), around.get_distances(0, range(1, 7)).round(2).tolist()
    ('NaCl6', [2.82, 2.82, 2.82, 2.82, 2.82, 2.82])
    """
    if not 0 <= centre < len(atoms):
        raise InputError(f"{atoms.symbols}: has no atom {centre}, only {len(atoms)} atoms.")
    i, j, vectors = neighbor_list("ijD", atoms, float(cutoff))
    mine = np.flatnonzero(i == centre)
    mine = mine[np.argsort(np.linalg.norm(vectors[mine], axis=1), kind="stable")]
    numbers = atoms.numbers[[centre, *j[mine]]]
    return Atoms(numbers, np.concatenate([np.zeros((1, 3)), vectors[mine]]))


def structure_pictures(
    structures: Sequence[Atoms], centres: Sequence[int], titles: Sequence[str], cutoff: float = 4.0
) -> Figure:
    """Drawings of the surroundings of atoms, three in a row, the atom in question ringed.

    The view is along the direction in which the neighbourhood is thinnest. Lines join atoms nearer
    than 1.2 times the sum of their covalent radii.

    Parameters
    ----------
    structures, centres, titles
        For each drawing a structure, the index of its atom, and a title.
    cutoff
        Radius of what is drawn, in angstrom.

    Raises
    ------
    InputError
        An index that no atom has.

    Examples
    --------
    >>> from ase.build import bulk
    >>> figure = structure_pictures([bulk("Cu")], [0], ["Cu in copper"], cutoff=3)
    >>> figure.axes[0].get_title(), len(figure.axes[0].texts)
    ('Cu in copper', 13)
    """
    rows, room = -(-len(structures) // 3), (-cutoff - 0.6, cutoff + 0.6)
    bare = {"xlim": room, "ylim": room, "aspect": "equal", "frame_on": False}
    bare |= {"xticks": [], "yticks": []}
    size = 7.2, 2.9 * rows
    figure, axes = plt.subplots(rows, 3, figsize=size, squeeze=False, subplot_kw=bare)
    drawings = list(zip(structures, centres, titles, strict=True))
    for axis, (atoms, centre, title) in zip(axes.flat, drawings, strict=False):
        axis.set_title(title, fontsize=11)
        around = neighbourhood(atoms, centre, cutoff)
        radii = covalent_radii[around.numbers]
        bonded = around.get_all_distances() < 1.2 * (radii[:, None] + radii)
        # along the last principal axis, tilted, or rows of a crystal would hide each other
        around.positions = around.positions @ np.linalg.svd(around.positions)[2].T
        around.euler_rotate(30, 20, -30)
        x, heights = around.positions[:, :2], around.positions[:, 2].argsort().argsort() + 2
        heights[0] = len(around) + 2  # nothing covers the atom in question
        axis.add_collection(LineCollection(x[np.argwhere(np.triu(bonded, 1))], colors="0.6"))
        for n, height in enumerate(heights):
            look = {"edgecolor": "k", "linewidth": 3} if n == 0 else {"edgecolor": "0.4"}
            look["facecolor"] = 0.35 + 0.65 * jmol_colors[around.numbers[n]]  # for black letters
            axis.add_patch(Circle(x[n], 0.3 + 0.35 * radii[n], zorder=height, **look))
            middle = {"ha": "center", "va": "center", "fontsize": 8, "zorder": height}
            axis.text(*x[n], around.symbols[n], **middle)
    return finished(figure)
