"""What sets two published checkpoints apart, read from the catalogue."""

from collections.abc import Sequence
from itertools import permutations

import pandas as pd

from ..models.catalogue import list_models

# what the catalogue says of a training
ASPECTS = ("architecture", "trained_on", "functional", "objective")


def matched_pairs(names: Sequence[str]) -> pd.DataFrame:
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
        A row per ordered pair: ``source``, ``target`` and ``aspect``, what sets them apart, such as
        ``data`` or ``data and functional``, ``version`` for an architecture of the same family, and
        ``another training`` if the catalogue knows of no difference. Behind a comma follows how the
        weights are related, if they are: ``fine-tuned`` one from the other, ``one network`` if both
        are read from one file, ``common start`` if one model lies at the root of both.

    Examples
    --------
    >>> matched_pairs(["chgnet-0.3.0", "chgnet-r2scan"])["aspect"].unique().tolist()
    ['data and functional, fine-tuned']
    """
    catalogue, rows = catalogue_of(names), []
    for source, target in permutations(catalogue, 2):
        one, other = catalogue[source], catalogue[target]
        differs = [a.replace("trained_on", "data") for a in ASPECTS if one[a] != other[a]]
        if "architecture" in differs and {"data", "functional"} & {*differs}:
            continue
        aspect = " and ".join(differs) or "another training"
        if one["family"] == other["family"]:
            aspect = aspect.replace("architecture", "version")
        rows.append((source, target, ", ".join(filter(None, (aspect, relation(source, target))))))
    return pd.DataFrame(rows, columns=["source", "target", "aspect"])


def fine_tunings(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Every fine-tuned checkpoint between its start and a sibling trained from scratch.

    The sibling grew from random weights of its own in the same family, unrelated to the start: one
    of the same architecture if there is any, then the one with most of the tuned model's data.

    Parameters
    ----------
    names
        Of the catalogue, as in `matched_pairs`.

    Returns
    -------
    list of tuple
        Start, fine-tuned model and sibling; none where one of the three is missing.

    Examples
    --------
    >>> fine_tunings(["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan", "7net-0"])
    [('chgnet-0.3.0', 'chgnet-r2scan', 'chgnet-0.2.0')]
    """
    catalogue, found = catalogue_of(names), []
    for tuned, entry in catalogue.items():
        siblings = []
        for name, other in catalogue.items():
            from_scratch = "started_from" not in other and not relation(name, tuned)
            if from_scratch and other["family"] == entry["family"]:
                n_shared = len({*entry["trained_on"]} & {*other["trained_on"]})
                siblings.append((other["architecture"] == entry["architecture"], n_shared, name))
        if entry.get("started_from") in catalogue and siblings:
            found.append((entry["started_from"], tuned, max(siblings)[-1]))
    return found


def catalogue_of(names: Sequence[str]) -> dict[str, dict]:
    """The entries that say how a checkpoint was trained."""
    known = list_models()
    return {name: known[name] for name in names if {*ASPECTS} <= {*known.get(name, ())}}


def relation(source: str, target: str) -> str:
    """How the weights of two checkpoints are related; see `matched_pairs`.

    Examples
    --------
    >>> relation("chgnet-0.3.0", "chgnet-r2scan"), relation("chgnet-0.3.0", "7net-0")
    ('fine-tuned', '')
    """
    one, other = lineage(source), lineage(target)
    if source in other or target in one:
        return "fine-tuned"
    if len({list_models()[name].get("sha256", name) for name in (source, target)}) == 1:
        return "one network"
    return "common start" if {*one} & {*other} else ""


def lineage(name: str) -> list[str]:
    """A checkpoint, and what it was fine-tuned from, latest first."""
    before = list_models()[name].get("started_from")
    return [name, *(lineage(before) if before else ())]
