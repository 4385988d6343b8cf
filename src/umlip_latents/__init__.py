"""Latent features of universal interatomic potentials, and how much of each other they hold.

Names are imported when they are first used, so that ``import umlip_latents`` costs nothing.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "comparing": ("compare",),
    "comparison": ("Comparison",),
    "cumulants": ("cumulant_features",),
    "extraction": ("FeatureBlocks", "extract_features", "features_by_name"),
    "factors": ("streaming_gfre",),
    "features": ("Features",),
    "models.catalog": ("list_models", "load_model"),
    "reconstruction": (
        "global_reconstruction_error",
        "local_reconstruction_error",
        "reconstruction_matrix",
    ),
    "regression": ("CUTOFF", "TIKHONOV", "Regularization"),
    "resources": ("InputError",),
    "splits": ("split_atoms",),
    "structures": ("list_datasets", "load_structures"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("umlip-latents")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "__version__"})
