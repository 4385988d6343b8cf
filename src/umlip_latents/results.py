"""What was found, on disk: tables, findings, figures."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from .provenance import provenance
from .resources import DATA, InputError, made, write_whole, written_whole

REFERENCE = DATA / "reference-results" / "full"
PUBLISHED = DATA / "published" / "reconstruction_errors.csv"


def save_results(
    folder: str | Path,
    name: str,
    findings: Sequence[Mapping[str, str]],
    headlines: Sequence[str] = (),
    **tables: pd.DataFrame,
) -> None:
    """Write what a notebook found: ``<name>.json`` and ``<name>-<table>.csv``.

    Parameters
    ----------
    folder
        Where to; made if it is not there.
    name
        The notebook's name.
    findings
        Rows of a table, each with ``question`` and ``finding``.
    headlines
        Sentences for the front page.
    tables
        Result tables in long form; one without rows is not written.

    Examples
    --------
    >>> import tempfile
    >>> finding = {"question": "Do they agree?", "finding": "By half."}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_results(folder, "03_mine", [finding], errors=pd.DataFrame({"gfre": [0.5]}))
    ...     sorted(os.listdir(folder))
    ['03_mine-errors.csv', '03_mine.json']
    """
    folder = made(Path(folder))
    for key, table in tables.items():
        if table.empty:
            continue
        text = table.to_csv(index=False, float_format="%.10g", lineterminator="\n")
        write_whole(folder / f"{name}-{key}.csv", text)
    content = {"headlines": list(headlines), "findings": list(findings)}
    content["provenance"] = provenance()
    content["profile"] = os.environ.get("UMLIP_LATENTS_PROFILE", "interactive")
    write_whole(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, its text as text, in the format that the file's ending names.

    Parameters
    ----------
    figure
        Any.
    path
        Ends in ``.svg``, ``.pdf``, ``.png`` or whatever else matplotlib writes.

    Raises
    ------
    InputError
        The file cannot be written, or its ending names no format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(Figure(), Path(folder, "empty.svg"))
    ...     Path(folder, "empty.svg").read_text()[:5]
    '<?xml'
    """
    ending = path.suffix.lower()[1:]
    if ending not in figure.canvas.get_supported_filetypes():
        raise InputError(f"{path}: its ending names no format of a figure, such as .svg.")
    with rc_context({"svg.fonttype": "none"}), written_whole(path) as temporary:
        figure.savefig(temporary, format=ending, bbox_inches="tight")
