"""Every number at its place in the periodic table."""

from umlip_latents.plots.chemistry import periodic_table


def test_numbers_stand_in_the_cell_of_their_element():
    axis, _ = periodic_table({"He": 0.994, "Fe": 1.234, "La": 0.123}, label="error").axes
    texts = {text.get_text(): text.get_position() for text in axis.texts}
    assert texts["0.99"][0] == texts["He"][0] == 17.5
    assert texts["1.23"] == (7.5, 3.5)  # group 8, period 4
    assert texts["0.12"] == (2.5, 7.5)  # below the table
