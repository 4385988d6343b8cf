"""What a reader can turn, choose and click: structures behind a map, errors of chosen pairs.

A page carries the data itself, and the scripts that `book/_ext/interactive.py` puts beside it draw
them, so that it works from a file. Where they are missing, what stands in the element stays there.
"""

import json
from base64 import b64encode

import altair as alt
import pandas as pd
from chemiscope import create_input
from IPython.display import HTML
from vl_convert import vegalite_to_png


def structure_viewer(name: str, dataset: dict) -> HTML:
    """A map whose points show their structure when they are clicked.

    Parameters
    ----------
    name
        The ``id`` of the viewer in its page.
    dataset
        What `chemiscope.show` takes, which opens the same viewer in a notebook that is run by hand.

    Examples
    --------
    >>> from ase.build import bulk
    >>> lengths = {"target": "structure", "values": [2.55, 2.35]}
    >>> dataset = {"structures": [bulk("Cu"), bulk("Si")], "properties": {"bond": lengths}}
    >>> structure_viewer("bonds", dataset).data[:16]
    '<div id="bonds">'
    """
    content = json.dumps(create_input(**dataset)).encode()
    url = f"data:application/json;base64,{b64encode(content).decode()}"
    words = "<p>With JavaScript a viewer of the map above; by hand, chemiscope.show opens it.</p>"
    return html_element(name, words, f'loadChemiscopeSphinx?.("{name}", "{url}", "default", -1)')


def error_explorer(table: pd.DataFrame, choices: dict, tooltip: list[str]) -> alt.LayerChart:
    """A heat map of errors to choose, sort and filter: row = source, column = target.

    Errors above 1 are black.

    Parameters
    ----------
    table
        A row per ordered pair: ``source``, ``target``, ``error``, and ``value``, its text; of both
        ends such columns as ``source family``, ``source kind``, and ``source by ...`` each order.
    choices
        Lists of what can be chosen: an ``order``, families or kinds of the ``sources`` and of the
        ``targets``, and by any other name the values of that column.
    tooltip
        Columns that a cell shows where the pointer rests.

    Examples
    --------
    >>> rows = [("a", "b", 0.4, "0.40"), ("b", "a", 1.2, "1.20*")]
    >>> table = pd.DataFrame(rows, columns=["source", "target", "error", "value"])
    >>> chart = error_explorer(table, {"order": ["name"], "sources": ["all"]}, ["source"])
    >>> chart.data.values.splitlines()
    ['source,target,error,value', 'a,b,0.4,0.40', 'b,a,1.2,1.20*']
    """
    ends = ("source", "target")
    chosen = [f"datum['{key}'] === {key}" for key in choices if key in table]
    chosen += [f"indexof(['all', datum['{e} family'], datum['{e} kind']], {e}s) >= 0" for e in ends]
    places = {f"{e} place": f"toNumber(datum['{e} by ' + order])" for e in ends}
    # as text, which takes a fifth of the room of records
    data = alt.InlineData(table.to_csv(index=False, float_format="%.4g"), {"type": "csv"})
    chart = alt.Chart(data).transform_filter(" && ".join(chosen)).transform_calculate(**places)
    y = alt.Y("source:N", sort=alt.SortField("source place"))
    x = alt.X("target:N", sort=alt.SortField("target place"))
    shade = alt.Color("error:Q").scale(scheme="viridis", reverse=True, domain=[0, 1], clamp=True)
    colour = alt.condition("datum.error > 1", alt.value("black"), shade)
    ink = alt.condition("datum.error > 0.5", alt.value("white"), alt.value("black"))
    chart = chart.encode(x, y, tooltip=[f"{name}:N" for name in tooltip])
    cells, texts = chart.mark_rect(), chart.mark_text(fontSize=10)
    drawn = cells.encode(color=colour) + texts.encode(color=ink, text="value:N")
    for key, few in choices.items():
        bound = alt.binding_select(options=few, name=f"{key} ")
        drawn = drawn.add_params(alt.param(key, value=few[0], bind=bound))
    return drawn.properties(width=alt.Step(32), height=alt.Step(26))


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
    >>> chart_in_page("mine", chart, "One error").data[:35]
    '<div id="mine"><img alt="One error"'
    """
    picture = b64encode(vegalite_to_png(chart.to_json())).decode()
    image = f'<img alt="{description}" src="data:image/png;base64,{picture}">'
    spec, options = chart.to_json(indent=None), '{renderer: "svg", actions: false}'
    return html_element(name, image, f'vegaEmbed?.("#{name}", {spec}, {options})')


def html_element(name: str, fallback: str, call: str) -> HTML:
    """An element that a call of a script fills; without scripts it shows the fallback."""
    return HTML(f'<div id="{name}">{fallback}</div><script>window.{call}</script>')
