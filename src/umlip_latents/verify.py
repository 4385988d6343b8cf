"""Whether what ships, was downloaded or stored is what it was, and some numbers come out again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import zarr
from tqdm import tqdm

from .effects import controlled_models
from .models.catalog import list_models, load_model
from .resources import DATA, InputError, cache_folder, sha256
from .results import REFERENCE
from .store import FeatureStore
from .structures import list_datasets, load_structures

# relative: tables were written with six digits; another machine computes in single precision
TABLES, COMPUTED = 1e-5, 1e-3
HELD_OUT = ("mini-mace-mptrj", "mini-mace-base-s0")


class Check(NamedTuple):
    """Something as it should be and as it is; neither right nor wrong if it is not at hand."""

    what: str
    expected: str
    found: str
    right: bool | None


def verify(store: str | Path | None = None) -> dict[str, dict]:
    """Check every file that ships, is downloaded or stored, and derive some numbers anew.

    Parameters
    ----------
    store
        Folder of extracted features to check, too.

    Returns
    -------
    dict of dict
        For each part: how many things are ``right``, which are ``not_at_hand``, and which are
        ``wrong``, each with ``what`` it is, what was ``expected`` and what was ``found``.

        The *shipped files* have the SHA-256 of the manifest, *downloads and checkpoints*, those
        inside the package chgnet included, that of the registries, and every *block* of the store
        can be read. The *reference numbers* are derived anew as far as their data are here:
        the table of the controlled models from their cards, within 1e-5; errors between two CHGNets
        on the embedded structures, and the held-out errors of two models from their recipes, within
        a thousandth. It takes about a minute. Where a part cannot be checked to its end, because
        something is not as it was, that is wrong, too.

    Examples
    --------
    >>> verify()["shipped files"]["wrong"]  # doctest: +SKIP
    []
    """
    numbers = chain(controlled(), rebuilt(), *map(held_out, HELD_OUT))
    parts = {"shipped files": shipped(), "downloads and checkpoints": registered()}
    parts |= {"blocks of the store": stored(Path(store))} if store else {}
    found = {}
    for part, checks in (parts | {"reference numbers": numbers}).items():
        seen = list(tqdm(to_the_end(part, checks), desc=part, unit=""))
        absent = [check.what for check in seen if check.right is None]
        wrong = [check._asdict() for check in seen if check.right is False]
        n_right = len(seen) - len(absent) - len(wrong)
        found[part] = {"right": n_right, "not_at_hand": absent, "wrong": wrong}
    return found


def to_the_end(part: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Checks, and what stops them as one that has failed."""
    try:
        yield from checks
    except Exception as error:  # whatever comes of files that were tampered with
        yield Check(part, "to be checked to the end", f"{type(error).__name__}: {error}", False)


def told(found: dict[str, dict]) -> str:
    """A line for each part of what `verify` returns, and one for everything that is wrong.

    Examples
    --------
    >>> wrong = {"what": "a.csv", "expected": "1", "found": "2"}
    >>> print(told({"tables": {"right": 3, "not_at_hand": ["b.csv"], "wrong": [wrong]}}))
    tables: 3 right, 1 not at hand (b.csv), 1 WRONG
      a.csv: expected 1, found 2
    """
    lines = []
    for part, of in found.items():
        absent, n_wrong = of["not_at_hand"], len(of["wrong"])
        line = f"{part}: {of['right']} right, {len(absent)} not at hand"
        line += f" ({'; '.join(absent)})" if 0 < len(absent) <= 5 else ""
        lines.append(f"{line}, {n_wrong} WRONG" if n_wrong else line)
        lines += ["  {what}: expected {expected}, found {found}".format(**w) for w in of["wrong"]]
    return "\n".join(lines)


def shipped() -> Iterator[Check]:
    """The files of the manifest."""
    for row in pd.read_csv(DATA / "reference-results" / "manifest.csv").itertuples():
        yield file_check(DATA / row.file, row.sha256)


def registered() -> Iterator[Check]:
    """Every copy that is at hand of a file with a published SHA-256."""
    entries = [*list_datasets().values(), *list_models().values()]
    parts = [part for entry in entries for part in (entry, entry.get("arguments", {}))]
    sums = {part["file"]: part["sha256"] for part in parts if {"file", "sha256"} <= {*part}}
    for file, expected in sums.items():
        here = [file_check(path, expected) for path in copies(file)]
        yield from here or [Check(file, expected, "", None)]


def file_check(path: Path, expected: str) -> Check:
    """Whether a file has a SHA-256."""
    found = sha256(path) if path.is_file() else "no such file"
    return Check(str(path), expected, found, found == expected)


def copies(file: str) -> list[Path]:
    """Every copy of a registered file: shipped, in the package chgnet, downloaded."""
    package = Path(find_spec("chgnet").origin).parent / "pretrained"
    folders = [DATA, package, cache_folder(), Path(os.environ.get("UMLIP_LATENTS_DATA", DATA))]
    return [path for path in dict.fromkeys(f / file for f in folders) if path.is_file()]


def stored(folder: Path) -> Iterator[Check]:
    """Every block of the stores below a folder."""
    blocks = sorted(folder.rglob("block-*"))
    if not blocks:
        raise InputError(f"{folder}: holds no features.")
    for block in blocks:
        wrong = ""
        try:
            held = zarr.open_group(block.parent / "provenance", mode="r").attrs
            names = zarr.open_group(block, mode="r").attrs["seals"]
            FeatureStore(block.parent, dict(held)).read(int(block.name[-6:]), list(names))
        except Exception as error:  # whatever Zarr raises
            wrong = str(error).removeprefix(f"{block}: ")
        yield Check(str(block), "what was written", wrong, not wrong)


def near(what: str, expected: float, found: float, tolerance: float) -> Check:
    """Whether a number is another one, within a relative tolerance."""
    right = bool(np.isclose(found, expected, rtol=tolerance, atol=0, equal_nan=True))
    return Check(what, f"{expected:.6g}", f"{found:.6g}", right)


def controlled() -> Iterator[Check]:
    """The table of the controlled models, from their cards."""
    file = "05_controlled_training-models.csv"
    kept, found = pd.read_csv(REFERENCE / file), controlled_models()
    kept, found = (table.set_index("name").select_dtypes("number") for table in (kept, found))
    for (name, column), value in kept.stack().items():
        now = found[column].get(name, np.nan)
        yield near(f"{file}, {column} of {name}", value, now, TABLES)


def rebuilt() -> Iterator[Check]:
    """Errors between two CHGNets and the bare element on the embedded structures."""
    from .comparing import compare
    from .extraction import features_by_name

    file = "04_fine_tuning-errors.csv"
    names, structures = ["chgnet-0.3.0", "chgnet-r2scan", "element"], load_structures("embedded")
    with tempfile.TemporaryDirectory() as folder:
        features, _ = features_by_name(structures[::3], names, store=folder, progress=False)
    found = compare(features, baselines=["element"], n_splits=5).matrix()
    kept = pd.read_csv(REFERENCE / file).query("dataset == 'embedded'")
    for row in kept[kept["source"].isin(names) & kept["target"].isin(names)].itertuples():
        what = f"{file}, {row.source} to {row.target} on embedded"
        yield near(what, row.error, found.loc[row.source, row.target], COMPUTED)


def held_out(name: str) -> Iterator[Check]:
    """The errors on its card of a model on the structures that its recipe holds out."""
    from .training import by_dataset, model_errors, recipe_parts

    card = json.loads((DATA / "checkpoints" / f"{name}.json").read_text(encoding="utf-8"))
    what, known = f"held-out errors of {name}", list_datasets()
    if lacking := [d for d in card["recipe"]["datasets"] if not copies(known[d]["file"])]:
        yield Check(f"{what}, without {', '.join(lacking)}", "", "", None)
        return
    model = load_model(name)
    parts = recipe_parts(card["recipe"])
    found = by_dataset(parts["held out"], lambda structures: model_errors(model, structures))
    for dataset, errors in card["held_out_errors"].items():
        for key, value in errors.items():
            yield near(f"{what}, {key} on {dataset}", value, found[dataset][key], COMPUTED)
