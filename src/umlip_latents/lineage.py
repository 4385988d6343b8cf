"""What sets two published checkpoints apart, read from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pandas as pd

from .models.catalog import list_models

# what the catalogue says of a training, and the word for a difference in it
ASPECTS = {
    "architecture": "architecture",
    "trained_on": "data",
    "functional": "functional",
    "objective": "objective",
}
NOTHING = "another training"


def natural_experiments(names: Sequence[str]) -> pd.DataFrame:
    """The ordered pairs of checkpoints that share their architecture, or everything else.

    Of two checkpoints of different architecture only those on the same data, for the same
    functional, are a pair: there the architecture and, it may be, the objective set them apart.

    Parameters
    ----------
    names
        Of the catalogue. Those of which it does not say what they were trained on have no pair.

    Returns
    -------
    pandas.DataFrame
        A row per ordered pair: ``source``, ``target``; ``differs``, what sets them apart, such as
        ``data`` or ``data and functional``, and ``another training`` if the catalogue knows of no
        difference; and ``start``: ``tuned`` if the target was fine-tuned from the source, ``back``
        if the source was from the target, ``kin`` if one model lies at the root of both, ``same``
        if both are read from one file, and ``scratch`` if they have nothing in common.

    Examples
    --------
    >>> natural_experiments(["chgnet-0.3.0", "chgnet-r2scan"]).iloc[0].tolist()
    ['chgnet-0.3.0', 'chgnet-r2scan', 'data and functional', 'tuned']
    """
    catalogue = list_models()
    known = [name for name in names if {*ASPECTS} <= {*catalogue.get(name, ())}]
    rows = []
    for source, target in permutations(known, 2):
        one, other = catalogue[source], catalogue[target]
        differs = [word for aspect, word in ASPECTS.items() if one[aspect] != other[aspect]]
        if differs[:1] != ["architecture"] or not {"data", "functional"} & {*differs}:
            what = " and ".join(differs) or NOTHING
            rows.append((source, target, what, start(source, target)))
    return pd.DataFrame(rows, columns=["source", "target", "differs", "start"])


def fine_tunings(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Every checkpoint that was trained on from another one, its start, and a stranger to both.

    The stranger grew from random weights of its own in the same family: of those that the start has
    nothing to do with, one of the same architecture if there is any, then the one with most of the
    tuned model's data.

    Parameters
    ----------
    names
        Of the catalogue, as in `natural_experiments`.

    Returns
    -------
    list of tuple
        Start, tuned model and stranger; none where one of the three is missing.

    Examples
    --------
    >>> fine_tunings(["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan", "7net-0"])
    [('chgnet-0.3.0', 'chgnet-r2scan', 'chgnet-0.2.0')]
    """
    catalogue = list_models()
    known = {name: catalogue[name] for name in names if {*ASPECTS} <= {*catalogue.get(name, ())}}
    found = []
    for tuned, entry in known.items():
        before, data = entry.get("started_from"), {*entry["trained_on"]}
        strangers = [
            (other["architecture"] == entry["architecture"], len(data & {*other["trained_on"]}), n)
            for n, other in known.items()
            if other["family"] == entry["family"]
            and "started_from" not in other
            and start(n, tuned) == "scratch"
        ]
        if before in known and strangers:
            found.append((before, tuned, max(strangers)[-1]))
    return found


def start(source: str, target: str) -> str:
    """How the weights of two checkpoints are related; see `natural_experiments`."""
    one, other = ancestors(source), ancestors(target)
    if source in other:
        return "tuned"
    if target in one:
        return "back"
    files = {list_models()[name].get("sha256", name) for name in (source, target)}
    if len(files) == 1:
        return "same"
    return "kin" if {*one} & {*other} else "scratch"


def ancestors(name: str) -> list[str]:
    """The checkpoints that a checkpoint was fine-tuned from, latest first."""
    before = list_models()[name].get("started_from")
    return [before, *ancestors(before)] if before else []
