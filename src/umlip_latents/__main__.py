"""Where the command line starts, so that Ctrl-C is one line at any moment after."""

import os
import signal
import sys
from types import FrameType

STATUS = 128 + signal.SIGINT


def main() -> int:
    """Run one command; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    try:
        from .cli import main

        return main()
    except KeyboardInterrupt:
        tell()
        return STATUS


def interrupted(_: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, but end at once in an import: PyTorch aborts if one passes."""
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            tell()
            os._exit(STATUS)
        frame = frame.f_back
    raise KeyboardInterrupt


def tell() -> None:
    """Say in one line what has happened."""
    os.write(2, b"umlip-latents: interrupted.\n")  # a handler may not use what it has interrupted


if __name__ == "__main__":
    sys.exit(main())
