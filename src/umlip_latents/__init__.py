"""Latent features of universal interatomic potentials, and how much of each other they hold.

Names are imported when they are first used, so that ``import umlip_latents`` costs nothing.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "features.cumulants": "cumulant_features",
    "features.extraction": "extract_features features_by_layer",
    "features.load": "load_features FeatureBlocks",
    "features.transformer": "LatentFeatures",
    "features.table": "Features",
    "measures.compare": "compare FitOptions",
    "measures.comparison": "Comparison",
    "measures.reconstruction": "global_reconstruction_error local_reconstruction_error "
    "reconstruction_matrix",
    "measures.regression": "CUTOFF TIKHONOV Regularization",
    "measures.splitting": "Split",
    "measures.streaming": "streaming_gfre",
    "analysis.place": "place",
    "models.catalogue": "list_models load_model published_models",
    "resources": "InputError",
    "structures.read": "list_datasets load_structures",
    "structures.splits": "split_atoms",
    "structures.tables": "atom_table structure_table",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("umlip-latents")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "__version__"})
