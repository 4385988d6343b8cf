"""Sphinx extension: maps and charts that a page draws itself, from a file and without the web.

The scripts come from the installed packages: chemiscope's own for Sphinx, and the bundle of Vega
that Altair's charts need. A page gets those that it calls. Chemiscope's directive is not used: it
fetches its data set, which no browser allows a page that was opened as a file.
"""

from __future__ import annotations

from pathlib import Path

import chemiscope.sphinx
from sphinx.application import Sphinx
from vl_convert import javascript_bundle

# what a page calls, and the files that answer
CHEMISCOPE = ("chemiscope.min.js", "chemiscope-sphinx.js")
CALLS = {"loadChemiscopeSphinx": CHEMISCOPE, "vegaEmbed": ("vega-embed.js",)}


def add_assets(app: Sphinx) -> None:
    """Have the scripts and styles copied to the static files."""
    library = Path(chemiscope.sphinx.__file__).parent / "static"
    files = [library / name for name in (*CHEMISCOPE, "chemiscope-sphinx.css")]
    app.config.html_static_path += map(str, [*files, Path(__file__).with_suffix(".css")])


def add_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Give a page the scripts that it calls."""
    called = [call for call in CALLS if call in context.get("body", "")]
    for name in (name for call in called for name in CALLS[call]):
        app.add_js_file(name)
    if called:
        app.add_css_file("chemiscope-sphinx.css")
        app.add_css_file("interactive.css")


def write_bundle(app: Sphinx, error: Exception | None) -> None:
    """Put Vega beside the other scripts, its many short names to itself."""
    if not error:
        text = f"(() => {{{javascript_bundle()}}})();"
        Path(app.outdir, "_static", "vega-embed.js").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the three steps."""
    app.connect("builder-inited", add_assets)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_bundle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
