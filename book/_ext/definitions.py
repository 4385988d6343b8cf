"""Sphinx extension: a reference to a term of the glossary carries the definition.

The pointer finds it as the link's title, and so does a screen reader.
"""

from __future__ import annotations

from functools import cache

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


@cache
def definitions(app: Sphinx) -> dict[str, str]:
    """The text of every definition, by the anchor of its term."""
    found = {}
    objects = app.env.get_domain("std").objects
    for page in {page for (kind, _), (page, _) in objects.items() if kind == "term"}:
        for glossary in app.env.get_doctree(page).findall(addnodes.glossary):
            for item in glossary.findall(nodes.definition_list_item):
                text = " ".join(item.next_node(nodes.definition).astext().split())
                found |= {name: text for term in item.findall(nodes.term) for name in term["ids"]}
    return found


def define(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Give every reference to a term its definition."""
    for reference in doctree.findall(nodes.reference):
        if any("std-term" in inner["classes"] for inner in reference.findall(nodes.inline)):
            anchor = reference.get("refid") or reference["refuri"].rpartition("#")[2]
            reference["reftitle"] = definitions(app)[anchor]
            reference["classes"].append("definition")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step."""
    app.connect("doctree-resolved", define)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
