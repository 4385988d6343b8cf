"""Sphinx extension: a table of the class ``sortable`` can be sorted and searched, with no web.

DataTables comes from the package itables, as a module of JavaScript. A browser takes a module from
a file of the disk only if it is part of a script, so it is wrapped into one. Without JavaScript the
table is a plain one.
"""

from __future__ import annotations

from base64 import b64encode
from importlib.resources import files
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

SCRIPT = """import("data:text/javascript;base64,%s").then(({ default: DataTable }) => {
  for (const table of document.querySelectorAll("table.sortable")) {
    new DataTable(table, {
      autoWidth: false,
      order: [],
      paging: false,
      layout: { topStart: "search", topEnd: "info", bottomStart: null, bottomEnd: null },
      language: { info: "_TOTAL_ rows", infoFiltered: "of _MAX_", search: "Search" },
    });
  }
});
"""


def write_script(app: Sphinx) -> None:
    """Put DataTables, and the call of it, among the files of the book."""
    module = (files("itables") / "html" / "dt_bundle.js").read_bytes()
    target = Path(app.outdir) / "_static" / "tables.js"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(SCRIPT % b64encode(module).decode(), encoding="utf-8")


def add_script(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Load it on pages that have such a table."""
    tables = doctree.findall(nodes.table) if doctree else []
    if any("sortable" in table["classes"] for table in tables):
        app.add_js_file("tables.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both steps."""
    app.connect("builder-inited", write_script)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
