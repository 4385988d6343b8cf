"""The explorer shows what is chosen, in the order that is chosen."""

import re

import pandas as pd
import pytest
from vl_convert import vegalite_to_svg

from umlip_latents.plots.viewers import error_explorer

ERRORS = {("a", "b"): 0.4, ("a", "c"): 1.2, ("b", "a"): 0.6, ("c", "a"): 0.3, ("c", "b"): 0.8}
CELL = r'target: (.); source: (.); error: ([\d.]+);[^>]* d="M(\d+),(\d+)h[^>]* fill="([^"]+)"'


@pytest.fixture
def table() -> pd.DataFrame:
    """Errors between three sets of features by one metric, and worse ones by another."""
    rows = [{"source": s, "target": t, "error": error} for (s, t), error in ERRORS.items()]
    one = pd.DataFrame(rows).assign(metric="GFRE")
    found = pd.concat([one, one.assign(error=one["error"] + 2, metric="LFRE")])
    for end in ("source", "target"):
        found[f"{end} family"] = found[end].str.upper()
        found[f"{end} by backwards"] = found[end].map({"a": 2, "b": 1, "c": 0})
    return found.assign(value=found["error"].map("{:.2f}".format))


def drawn(table: pd.DataFrame, **chosen: str) -> pd.DataFrame:
    """The cells of the picture, a row each, from the top left."""
    first = {"metric": "GFRE", "order": "backwards", "sources": "all", "targets": "all"} | chosen
    chart = error_explorer(table, {key: [choice] for key, choice in first.items()}, ["value"])
    cells = re.findall(CELL, vegalite_to_svg(chart.to_json()))
    found = pd.DataFrame(cells, columns=["target", "source", "error", "x", "y", "colour"])
    return found.astype({"error": float, "x": int, "y": int}).sort_values(["y", "x"])


def test_a_cell_stands_for_each_chosen_error_in_row_and_column(table):
    found = drawn(table)
    assert found.set_index(["source", "target"])["error"].to_dict() == ERRORS
    assert [*dict.fromkeys(found["source"])] == [*"cba"]
    assert found.groupby("target")["x"].unique().map(len).eq(1).all()
    assert drawn(table, metric="LFRE")["error"].min() > 2
    assert {*drawn(table, sources="A")["source"]} == {"a"}


def test_only_errors_above_one_are_black(table):
    found = drawn(table)
    assert found.loc[found["colour"] == "black", "error"].tolist() == [1.2]
    assert found["colour"].nunique() == len(found)
