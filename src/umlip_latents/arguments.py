"""What the command line takes, all of it checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .metrics import MEASURES, METRICS
from .resources import InputError, readable, temporary_beside


class Input(click.ParamType):
    """A file that can be read."""

    name = "file"

    def convert(self, value: Any, *_: Any) -> Path:
        return readable(value)


class Output(click.ParamType):
    """A file that can be written, with one of some endings."""

    name = "file"

    def __init__(self, *endings: str) -> None:
        self.endings = endings

    def convert(self, value: Any, *_: Any) -> Path:
        path = Path(value)
        if path.suffix.lower() not in self.endings:
            raise InputError(f"{path}: must end in {' or '.join(self.endings)}.")
        temporary_beside(path).unlink()
        return path


class Command(click.Command):
    """A command that refuses to write over a file that it is to read."""

    def invoke(self, ctx: click.Context) -> Any:
        given = [(p.type, value) for p in self.params for value in each(ctx.params[p.name])]
        outputs = [value for kind, value in given if isinstance(kind, Output)]
        inputs = [value for kind, value in given if not isinstance(kind, Output)]
        for output in filter(os.path.exists, outputs):
            for path in inputs:
                if os.path.exists(path) and os.path.samefile(path, output):
                    raise InputError(f"{output}: is read, and cannot be written over.")
        return super().invoke(ctx)


def each(value: Any) -> Iterator[str | Path]:
    """The texts and paths among the values of an option."""
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, str | Path):
            yield part


INPUT = Input()
NPZ = Output(".npz")
FOLDER = click.Path(path_type=Path, file_okay=False)
METRIC = click.Choice((*METRICS, *MEASURES))
SPLIT = click.Choice(("atom", "structure", "system"))
FOLDS = click.Choice(("atom", "group"))
MANY = 10_000  # splits and resamples, which are held in memory
SEED = click.IntRange(0, 2**32 - 1 - MANY)
