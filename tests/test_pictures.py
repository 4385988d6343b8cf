"""Every element at its place in the periodic table, every neighbour in the drawing."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from matplotlib.patches import Circle, Rectangle

from umlip_latents.pictures import (
    SYMBOLS,
    neighbourhood,
    periodic_table,
    structure_pictures,
    table_cell,
)
from umlip_latents.resources import InputError


def cell_of(symbol):
    return table_cell(SYMBOLS.index(symbol) + 1)


def test_every_element_has_a_cell_of_its_own():
    cells = {table_cell(number) for number in range(1, 119)}
    assert len(cells) == 118
    assert max(row for row, _ in cells) == 10
    assert {column for _, column in cells} == {*range(1, 19)}


@pytest.mark.parametrize(
    ("cell", "symbols"),
    [
        (1, "H Li Na K Rb Cs Fr"),
        (2, "Be Mg Ca Sr Ba Ra"),
        (4, "Ti Zr Hf Rf"),
        (8, "Fe Ru Os Hs"),
        (13, "B Al Ga In Tl Nh"),
        (17, "F Cl Br I At Ts"),
        (18, "He Ne Ar Kr Xe Rn Og"),
    ],
)
def test_groups_stand_below_each_other(cell, symbols):
    rows, columns = zip(*map(cell_of, symbols.split()), strict=True)
    assert set(columns) == {cell}
    assert list(rows) == list(range(rows[0], 8))


def test_lanthanides_and_actinides_stand_below_the_rest():
    for first, last, row in (("La", "Lu", 9), ("Ac", "Lr", 10)):
        numbers = range(SYMBOLS.index(first) + 1, SYMBOLS.index(last) + 2)
        assert [table_cell(n) for n in numbers] == [(row, 3 + i) for i in range(15)]


def test_numbers_stand_in_the_cell_of_their_element():
    values = {"H": 0.0, "He": 0.994, "Fe": 0.996, "La": 0.123, "Og": 12.34}
    axis = periodic_table(values, label="error", framed=["La"]).axes[0]
    texts = {text.get_text(): text.get_position() for text in axis.texts}
    written = {"H\n.00", "He\n.99", "Fe\n1.0", "La\n.12", "Og\n12.3"}
    assert written <= {*texts}
    assert len(texts) == 118  # those without a number, too
    for text in written:
        row, column = cell_of(text.split()[0])
        assert texts[text] == (column - 0.5, row - 0.5)
    (frame,) = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert frame.get_xy() == (2, 8)
    assert not any("nan" in text for text in texts)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"Xx": 1.0}, "Xx"),
        ({"X": 1.0}, "X"),
        ({"O": np.nan}, "O"),
        ({"O": np.inf}, "O"),
        ({}, "no"),
    ],
)
def test_what_has_no_place_is_refused(values, named):
    with pytest.raises(InputError, match=named):
        periodic_table(values, label="error")


def by_hand(atoms, centre, cutoff):
    """Sorted numbers and vectors of all images inside the cutoff, by going through the cells."""
    found = []
    reach = [range(-6, 7) if p else (0,) for p in atoms.pbc]
    for shift in np.stack(np.meshgrid(*reach), axis=-1).reshape(-1, 3):
        vectors = atoms.positions + shift @ atoms.cell.array - atoms.positions[centre]
        for n, (number, vector) in enumerate(zip(atoms.numbers, vectors, strict=True)):
            if np.linalg.norm(vector) < cutoff and (n != centre or shift.any()):
                found.append((int(number), *vector.round(6) + 0.0))
    return sorted(found)


def as_list(around):
    vectors = zip(around.numbers, around.positions, strict=True)
    return sorted((int(z), *v.round(6) + 0.0) for z, v in list(vectors)[1:])


CASES = {
    "small cell": bulk("NaCl", "rocksalt", a=5.64),
    "skewed cell": bulk("Ti"),
    "slab": fcc111("Al", (1, 1, 3), vacuum=6),
    "molecule": molecule("CH3CH2OH"),
    "alone": Atoms("He"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_neighbourhood_is_all_that_is_inside_the_cutoff(name):
    atoms = CASES[name].copy()
    atoms.rattle(0.05, seed=1)
    for centre in range(len(atoms)):
        around = neighbourhood(atoms, centre, 4.1)
        assert around.numbers[0] == atoms.numbers[centre]
        assert not around.positions[0].any()
        assert as_list(around) == by_hand(atoms, centre, 4.1)
        distances = np.linalg.norm(around.positions, axis=1)
        assert (np.diff(distances) >= -1e-12).all()


def test_wrapping_into_the_cell_changes_no_neighbourhood():
    atoms = bulk("CsCl", "cesiumchloride", a=4.12).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=2)
    moved = atoms.copy()
    moved.positions += np.array([[3, -2, 1]] * len(atoms)) @ atoms.cell.array + [0.3, 2.1, -0.7]
    moved.wrap()
    for centre in range(len(atoms)):
        first, second = (neighbourhood(a, centre, 5.0) for a in (atoms, moved))
        assert as_list(first) == as_list(second)


@pytest.mark.parametrize("centre", [2, -1])
def test_an_atom_that_is_not_there_is_refused(centre):
    with pytest.raises(InputError, match=f"has no atom {centre}"):
        neighbourhood(bulk("NaCl", "rocksalt", a=5.64), centre, 3)


def test_drawings_show_every_neighbour_and_ring_one_atom():
    structures, centres = (
        [CASES["small cell"], CASES["molecule"], CASES["alone"]] * 2,
        [1, 2, 0] * 2,
    )
    figure = structure_pictures(structures, centres, [*"abcdef"], cutoff=3.5)
    assert [axis.get_title() for axis in figure.axes] == [*"abcdef"]
    for axis, atoms, centre in zip(figure.axes, structures, centres, strict=True):
        around = neighbourhood(atoms, centre, 3.5)
        assert [text.get_text() for text in axis.texts] == list(around.symbols)
        circles = [patch for patch in axis.patches if isinstance(patch, Circle)]
        ringed = [circle for circle in circles if circle.get_linewidth() == 3]
        assert len(circles) == len(around)
        assert ringed == circles[:1]
        assert tuple(ringed[0].center) == (0, 0)
        assert max(circle.zorder for circle in circles) == circles[0].zorder


def test_lines_join_bonded_atoms_and_the_view_keeps_no_length_too_long():
    methane = molecule("CH4")
    (axis, *_) = structure_pictures([methane], [0], ["methane"], cutoff=3).axes
    (lines,) = axis.collections
    lengths = [np.linalg.norm(b - a) for a, b in lines.get_segments()]
    assert len(lengths) == 4  # no hydrogen is bonded to another one
    assert max(lengths) <= methane.get_distance(0, 1) + 1e-9
