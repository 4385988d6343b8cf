"""What the command line takes, all of it checked before anything is computed."""

from __future__ import annotations

import os
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import click

from .metrics import MEASURES, METRICS
from .resources import InputError, readable, temporary_beside


class Input(click.ParamType):
    """A file that can be read."""

    name = "file"

    def convert(self, value: Any, *_: Any) -> Path:
        return readable(Path(value))


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
        outputs = [ctx.params[p.name] for p in self.params if isinstance(p.type, Output)]
        given = chain(*(v if isinstance(v, tuple) else (v,) for v in ctx.params.values()))
        files = [v for v in given if isinstance(v, str | Path) and os.path.isfile(v)]
        for one, other in permutations(files, 2):
            if one in outputs and os.path.samefile(one, other):
                raise InputError(f"{one}: is read, and cannot be written over.")
        return super().invoke(ctx)


INPUT = Input()
NPZ = Output(".npz")
FOLDER = click.Path(path_type=Path, file_okay=False)
METRIC = click.Choice((*METRICS, *MEASURES))
SPLIT = click.Choice(("atom", "structure", "system"))
FOLDS = click.Choice(("atom", "group"))
MANY = 10_000  # splits and resamples, which are held in memory
SEED = click.IntRange(0, 2**32 - 1 - MANY)
