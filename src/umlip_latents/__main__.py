"""``python -m umlip_latents`` is the command ``umlip-latents``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
