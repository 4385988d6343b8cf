"""Sphinx extension: the reference shows what is public in the modules that it names.

Public is what the package names as its own and what a notebook of the book imports from it.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

import umlip_latents
from umlip_latents.book import ROOT


def public(notebooks: Path) -> dict[str, Any]:
    """What the package exports, or a notebook of the folder imports from it, by its full name."""
    found = [(umlip_latents, name) for name in umlip_latents.__all__]
    for file in sorted(notebooks.glob("*.ipynb")):
        cells = nbformat.read(file, as_version=4).cells
        for cell in (cell for cell in cells if cell.cell_type == "code"):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("umlip_latents"):
                    module = import_module(node.module)
                    found += [(module, alias.name) for alias in node.names]
    objects = [getattr(module, name) for module, name in found]
    return {f"{o.__module__}.{o.__qualname__}": o for o in objects if hasattr(o, "__qualname__")}


def setup(app: Sphinx) -> dict[str, bool]:
    """Have autodoc skip the members of a module that are not public."""
    shown = public(ROOT / "notebooks").values()

    def skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
        return True if what == "module" and all(obj is not o for o in shown) else None

    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
