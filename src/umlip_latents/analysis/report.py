"""A placement as text, and as one HTML page that needs nothing else."""

import io
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib import rc_context

from ..resources import write_file
from .place import Placement

TEMPLATE = Path(__file__).with_name("report.html")


def printable(placement: Placement) -> pd.DataFrame:
    """The table of errors with two digits, intervals in brackets behind their number."""
    text = placement.table.map("{:.2f}".format)
    for low in [column for column in text if column.endswith("_low")]:
        name = low.removesuffix("_low")
        text[name] += " [" + text.pop(low) + ", " + text.pop(f"{name}_high") + "]"
    return spaced(text.replace("nan [nan, nan]", "-"))


def spaced(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose headings are words."""
    return table.rename(columns=lambda name: name.replace("_", " ")).rename_axis(None)


def summary(placement: Placement) -> list[tuple[str, str]]:
    """What the placement says in a few numbers: name and value."""
    own, kept = placement.properties.loc[placement.name], placement.retention
    few, baselines = placement.comparison.warnings, placement.comparison.baselines
    others = placement.table["distance"].drop([*baselines, *few], errors="ignore")
    rows = [
        ("structures", f"{len(placement.comparison.structures)} of {placement.dataset}"),
        ("nearest checkpoint", f"{others.index[0]}, distance {others.iloc[0]:.2f}"),
        ("farthest checkpoint", f"{others.index[-1]}, distance {others.iloc[-1]:.2f}"),
        ("share of the variance that the elements explain", f"{own['element_share']:.2f}"),
        ("effective dimension", f"{own['effective_dimension']:.1f}"),
        ("share of the variance in 1 % of the atoms", f"{own['extreme_share']:.2f}"),
    ]
    if few:
        rows.append(("not counted, since a few structures carry most of it", ", ".join(few)))
    if kept:
        rows.append((f"GFRE from its start, {kept['start']}", f"{kept['gfre']:.2f}"))
    if "sibling" in kept:
        rows.append((f"GFRE from a sibling, {kept['sibling']}", f"{kept['sibling_gfre']:.2f}"))
        value = f"{kept['retention']:.2f} [{kept['low']:.2f}, {kept['high']:.2f}]"
        rows.append(("retention of the start against the sibling", value))
    return rows


def format_text(placement: Placement) -> str:
    """The summary and the distances, to print."""
    lines = [f"{name:50}{value}" for name, value in summary(placement)]
    table = printable(placement)[["distance", "gfre to", "gfre from"]]
    return "\n".join([f"{placement.name}, {placement.layer}", "", *lines, "", table.to_string()])


def write_report(placement: Placement, path: Path) -> None:
    """One HTML file with the tree, the summary and all errors: no script, no network.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    picture = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        placement.tree().savefig(picture, format="svg", bbox_inches="tight")
    svg = picture.getvalue()
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    parts = {"errors": printable(placement), "properties": spaced(placement.properties.round(2))}
    page = template.render(
        vars(placement)
        | {key: Markup(table.to_html(border=0)) for key, table in parts.items()}
        | {"summary": summary(placement), "tree": Markup(svg[svg.index("<svg") :])}
    )
    write_file(path, page)
