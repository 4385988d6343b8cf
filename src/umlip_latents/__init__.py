"""Latent features of universal interatomic potentials, and how much of each other they hold."""

from importlib import metadata

from .comparing import compare
from .comparison import Comparison
from .cumulants import cumulant_features
from .extraction import FeatureBlocks, extract_features, features_by_name
from .factors import streaming_gfre
from .features import Features
from .models.catalog import list_models, load_model
from .reconstruction import (
    global_reconstruction_error,
    local_reconstruction_error,
    reconstruction_matrix,
)
from .regression import CUTOFF, TIKHONOV, Regularization
from .resources import InputError
from .splits import split_atoms
from .structures import list_datasets, load_structures

__version__ = metadata.version("umlip-latents")
