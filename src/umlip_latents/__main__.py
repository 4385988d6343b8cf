"""``python -m umlip_latents`` is the command ``umlip-latents``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
