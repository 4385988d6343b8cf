"""What a reader can turn and ask: maps with their structures, errors with their baselines.

A page carries the data itself, and the scripts that `book/_ext/interactive.py` puts beside it draw
them, so that it works from a file. Where they are missing, what stands in the element stays there.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
from chemiscope import create_input
from IPython.display import HTML
from vl_convert import vegalite_to_png


def structure_viewer(name: str, **dataset: Any) -> HTML:
    """A map whose points show their structure when they are clicked.

    Parameters
    ----------
    name
        The ``id`` of the viewer in its page.
    **dataset
        As `chemiscope.show` takes it, which draws the same in a notebook that is run by hand.

    Examples
    --------
    >>> from ase.build import bulk
    >>> lengths = {"target": "structure", "values": [2.55, 2.35]}
    >>> cells = [bulk("Cu"), bulk("Si")]
    >>> structure_viewer("bonds", structures=cells, properties={"bond": lengths}).data[:16]
    '<div id="bonds">'
    """
    text = json.dumps(create_input(**dataset))
    url = f"data:application/json;base64,{b64encode(text.encode()).decode()}"
    words = "<p>In the built book this is a viewer. By hand, <code>chemiscope.show</code> opens it.</p>"
    return in_page(name, words, f'loadChemiscopeSphinx?.("{name}", "{url}", "default", -1)')


def error_explorer(
    table: pd.DataFrame, choices: Mapping[str, Sequence[str]], told: Sequence[str]
) -> alt.LayerChart:
    """A heat map of errors to choose, sort and filter: row = source, column = target.

    Parameters
    ----------
    table
        A row per ordered pair: ``source``, ``target``, ``error``, and the text ``number`` that its
        cell carries; for both ends ``source family``, ``source kind``, and ``source by`` each order.
    choices
        What can be chosen: an ``order``, families or kinds of the ``sources`` and ``targets``, and
        by any other name the values of that column.
    told
        Columns that a cell tells where the pointer rests.

    Examples
    --------
    >>> rows = [("a", "b", 0.4, "0.40"), ("b", "a", 1.2, "1.20*")]
    >>> table = pd.DataFrame(rows, columns=["source", "target", "error", "number"])
    >>> chart = error_explorer(table, {"order": ["name"], "sources": ["all"]}, ["source"])
    >>> chart.data.values.splitlines()
    ['source,target,error,number', 'a,b,0.4,0.40', 'b,a,1.2,1.20*']
    """
    ends = ("source", "target")
    chosen = [f"datum['{key}'] === {key}" for key in choices if key in table]
    chosen += [f"indexof(['all', datum['{e} family'], datum['{e} kind']], {e}s) >= 0" for e in ends]
    places = {f"{e} place": f"toNumber(datum['{e} by ' + order])" for e in ends}
    # as text, which takes a fifth of the room of records
    data = alt.InlineData(table.to_csv(index=False, float_format="%.4g"), alt.CsvDataFormat(type="csv"))
    chart = alt.Chart(data).transform_filter(" && ".join(chosen)).transform_calculate(**places)
    axis = alt.Axis(labelLimit=170)
    y = alt.Y("source:N", sort=alt.SortField("source place"), axis=axis)
    x = alt.X("target:N", sort=alt.SortField("target place"), axis=axis)
    scale = alt.Scale(scheme="viridis", reverse=True, domain=[0, 1], clamp=True)
    shade = alt.Color("error:Q", scale=scale, title="error (black: above 1)")
    colour = alt.condition("datum.error > 1", alt.value("black"), shade)
    ink = alt.condition("datum.error > 0.5", alt.value("white"), alt.value("black"))
    cells = chart.mark_rect().encode(x, y, color=colour, tooltip=[f"{name}:N" for name in told])
    drawn = cells + chart.mark_text(fontSize=10).encode(x, y, color=ink, text="number:N")
    for key, few in choices.items():
        bound = alt.binding_select(options=few, name=f"{key} ")
        drawn = drawn.add_params(alt.param(key, value=few[0], bind=bound))
    return drawn.properties(width=alt.Step(34), height=alt.Step(26))


def chart_in_page(name: str, chart: alt.LayerChart, description: str) -> HTML:
    """A chart that can be used, and its picture where no script runs.

    Parameters
    ----------
    name
        The ``id`` of the chart in its page.
    chart
        From `error_explorer`.
    description
        Of the picture, for those who do not see it.

    Examples
    --------
    >>> chart = alt.Chart(alt.InlineData([{"error": 0.5}])).mark_tick().encode(x="error:Q")
    >>> chart_in_page("mine", chart, "One error").data[:38]
    '<div id="mine"><img alt="One error" src'
    """
    picture = b64encode(vegalite_to_png(chart.to_json())).decode()
    image = f'<img alt="{description}" src="data:image/png;base64,{picture}">'
    options = '{renderer: "svg", actions: {source: false, compiled: false, editor: false}}'
    return in_page(name, image, f'vegaEmbed?.("#{name}", {chart.to_json(indent=None)}, {options})')


def in_page(name: str, instead: str, call: str) -> HTML:
    """An element with what stands in it until, and unless, the call of a script fills it."""
    return HTML(f'<div id="{name}">{instead}</div><script>window.{call}</script>')
