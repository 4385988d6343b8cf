"""Latent features of universal interatomic potentials, and how much of each other they hold.

Names are imported when they are first used, so that ``import umlip_latents`` costs nothing;
``__init__.pyi`` lists them, for type checkers too.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_IMPORTS = [node for node in _STUB.body if isinstance(node, ast.ImportFrom)]
_MODULES = {name.asname: f".{node.module}" for node in _IMPORTS for name in node.names}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("umlip-latents")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "__version__"})
