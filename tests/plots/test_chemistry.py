"""Every element at its place in the periodic table."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from pymatgen.core import Element

from umlip_latents.plots.chemistry import periodic_table, table_cell
from umlip_latents.resources import InputError


def test_elements_stand_in_their_row_and_group_and_the_f_block_below():
    cells = {z: table_cell(z) for z in range(1, 119)}
    assert len({*cells.values()}) == 118
    for z, cell in cells.items():
        element = Element.from_Z(z)
        if 57 <= z <= 71 or 89 <= z <= 103:
            first, row = (57, 9) if z < 72 else (89, 10)
            assert cell == (row, 3 + z - first)
        else:
            assert cell == (element.row, element.group)


def test_numbers_stand_in_the_cell_of_their_element():
    values = {"H": 0.0, "He": 0.994, "Fe": 0.996, "La": 0.123, "Og": 12.34}
    axis = periodic_table(values, label="error", framed=["La"]).axes[0]
    texts = {text.get_text(): text.get_position() for text in axis.texts}
    written = {"H\n.00", "He\n.99", "Fe\n1.0", "La\n.12", "Og\n12.3"}
    assert written <= {*texts}
    assert len(texts) == 118  # those without a number, too
    for text in written:
        row, column = table_cell(Element(text.split()[0]).Z)
        assert texts[text] == (column - 0.5, row - 0.5)
    (frame,) = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert frame.get_xy() == (2, 8)


@pytest.mark.parametrize(("values", "named"), [({"X": 1.0}, "X"), ({"O": np.nan}, "O"), ({}, "no")])
def test_what_has_no_place_is_refused(values, named):
    with pytest.raises(InputError, match=named):
        periodic_table(values, label="error")
