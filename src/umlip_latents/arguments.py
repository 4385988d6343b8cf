"""What the command line takes, checked before anything is computed, and how it answers."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .measures.metrics import METRICS, SIMILARITIES
from .resources import InputError, check_writable

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
METRIC = click.Choice((*METRICS, *SIMILARITIES))
MANY = 10_000  # splits and resamples, which are held in memory
COUNT = click.IntRange(1, MANY)
RESAMPLES = click.IntRange(0, MANY)
SEED = click.IntRange(0, 2**32 - 1 - MANY)
MODEL_HELP = "A name, a checkpoint, or a class of yours, FILE.py:CLASS, whose code runs; repeatable"
DEVICE = click.option("--device", default="auto", help="PyTorch's: auto, cpu, cuda, cuda:1 ...")


class Output(click.Path):
    """A file that can be written, with one of some endings."""

    def __init__(self, *endings: str) -> None:
        super().__init__(path_type=Path)
        self.endings = endings

    def convert(self, value: Any, *context: Any) -> Path:
        path = super().convert(value, *context)
        if path.suffix.lower() not in self.endings:
            raise InputError(f"{path}: must end in {' or '.join(self.endings)}.")
        check_writable(path)
        return path


def model_options(function: Callable) -> Callable:
    """The options of a command that extracts features."""
    for option in (
        DEVICE,
        click.option("--trust", is_flag=True, help="Load what is pickled or has no known SHA-256."),
        click.option("--store", type=FOLDER, help="Folder to keep features in and resume from."),
        click.option("--layer", default="backbone", help="backbone, last, interaction-1 ..."),
    ):
        function = option(function)
    return function


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Names and values of ``NAME=VALUE``, the values in YAML."""
    import yaml

    try:
        return {name: yaml.safe_load(value) for name, value in (t.split("=", 1) for t in texts)}
    except (ValueError, yaml.YAMLError):
        raise click.BadParameter("give NAME=VALUE, with the value in YAML.") from None


def answer(function: Callable[..., tuple]) -> Callable[..., int]:
    """Print what a command returns, its second part for people, or its first with ``--json``.

    A third part is the exit status. Nothing but the answer reaches the standard output, whatever a
    library prints on the way.
    """

    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
    @functools.wraps(function)
    def run(as_json: bool, **options: Any) -> int:
        with contextlib.redirect_stdout(sys.stderr):
            data, text, *status = function(**options)
        click.echo(json.dumps(data, indent=1) if as_json else text)
        return sum(status)

    return run


def print_error(sentence: str) -> None:
    """Print a sentence on one line, with nothing in it that a terminal would obey."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(sentence.split()))
    click.echo(f"umlip-latents: {text}", err=True)
