"""Latent features of universal interatomic potentials, and how much of each other they hold.

Names are imported when they are first used, so that ``import umlip_latents`` costs nothing;
``__init__.pyi`` lists them, for type checkers too.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("umlip-latents")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
