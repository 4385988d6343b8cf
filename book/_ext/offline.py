"""Sphinx extension: pages that need nothing from the web, and no server.

Formulas become MathML, which browsers show without help, and the theme's scripts for running cells
on a remote server are left out. The older theme, which Python 3.10 gets, preloads its icons in a
way that browsers refuse in a file, and lets no keyboard scroll a wide table: both are mended.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>')
FOCUS = """
addEventListener("load", () => document.querySelectorAll(".pst-scrollable-table-container")
  .forEach(box => { if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; }));
"""


def mathml(latex: str, display: str) -> str:
    """MathML of a formula."""
    try:
        return convert(latex, display=display)
    except Exception as error:
        raise ExtensionError(f"{latex}: cannot be turned into MathML ({error!r}).") from error


def visit_inline(self, node: nodes.math) -> None:
    """A formula in a line of text."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_display(self, node: nodes.math_block) -> None:
    """A formula on its own line; the theme lets this class scroll, also by the keyboard."""
    formula = mathml(node.astext(), "block")
    self.body.append(f'<div class="formula pst-scrollable-table-container">{formula}</div>')
    raise nodes.SkipNode


def visit_citation(self, node: nodes.citation) -> None:
    """An entry of the bibliography; the role that docutils gives it is no item of its list."""
    HTML5Translator.visit_citation(self, node)
    self.body[-1] = self.body[-1].replace("doc-biblioentry", "listitem")


def drop_remote_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Take Thebe's scripts, which load more from the web, off a page."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script} {getattr(script, 'attributes', '')}".lower()
    ]


def drop_font_preloads(app: Sphinx, error: Exception | None) -> None:
    """Take the links to fonts off all pages; the style sheet loads them when they are needed."""
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if FONT_PRELOAD.search(text):
            page.write_text(FONT_PRELOAD.sub("", text), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name ``mathml``, the entries, and what mends the theme."""
    app.connect("html-page-context", drop_remote_scripts, priority=900)
    app.connect("build-finished", drop_font_preloads)
    app.add_js_file(None, body=FOCUS)
    citation = visit_citation, HTML5Translator.depart_citation
    app.add_node(nodes.citation, override=True, html=citation)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
