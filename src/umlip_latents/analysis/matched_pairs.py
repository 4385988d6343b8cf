"""What sets two published checkpoints apart, read from the catalogue."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import pandas as pd

from ..measures.comparison import Comparison
from ..models.catalogue import list_models

# what the catalogue says of a training
ASPECTS = ("architecture", "trained_on", "functional", "objective")
NO_DIFFERENCE = "another training"


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
        A row per ordered pair: ``source``, ``target``; ``differs``, what sets them apart, such as
        ``data`` or ``data and functional``, and ``another training`` if the catalogue knows of no
        difference; ``aspect``, the same with ``version`` for an architecture of the same family,
        and how the weights are related, if they are: ``fine-tuned`` one from the other,
        ``one network`` if both are read from one file, ``common start`` if one model lies at the
        root of both; and ``level``, the target's family.

    Examples
    --------
    >>> matched_pairs(["chgnet-0.3.0", "chgnet-r2scan"]).iloc[0, 2:].tolist()
    ['data and functional', 'data and functional, fine-tuned', 'CHGNet']
    """
    catalogue, rows = catalogue_of(names), []
    for source, target in permutations(catalogue, 2):
        one, other = catalogue[source], catalogue[target]
        differs = [a.replace("trained_on", "data") for a in ASPECTS if one[a] != other[a]]
        if "architecture" in differs and {"data", "functional"} & {*differs}:
            continue
        difference = aspect = " and ".join(differs) or NO_DIFFERENCE
        if one["family"] == other["family"]:
            aspect = aspect.replace("architecture", "version")
        aspect = ", ".join(filter(None, (aspect, relation(source, target))))
        rows.append((source, target, difference, aspect, other["family"]))
    return pd.DataFrame(rows, columns=["source", "target", "differs", "aspect", "level"])


def differences(
    comparison: Comparison, pairs: pd.DataFrame, references: Mapping[str, Sequence[tuple[str, str]]]
) -> pd.DataFrame:
    """GFREs between checkpoints that differ in the same things, beside others of their targets.

    Parameters
    ----------
    comparison
        Of the checkpoints and whatever else is compared, GFREs among its metrics.
    pairs
        From `matched_pairs`: those of one ``aspect`` and ``level`` are taken together.
    references
        Name to ordered pairs to hold theirs against: of these, those with the same targets.

    Returns
    -------
    pandas.DataFrame
        A row per aspect, level and ``direction``, which is ``between them`` or a name of
        `references`: the number of ordered ``pairs``, the mean ``error``, and the ``ratio`` of the
        error between them to this one, each with `_low` and `_high`. Where nothing was compared,
        there is no row.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from umlip_latents import compare, features_by_name
    >>> cells = [bulk("NaCl", "rocksalt", a=a) * (1, 1, 2) for a in (5.4, 5.5, 5.6, 5.7, 5.8, 5.9)]
    >>> names = ["chgnet-0.2.0", "chgnet-0.3.0"]
    >>> features, _ = features_by_name(cells, [*names, "element"], progress=False)
    >>> beside = {"element": [("element", name) for name in names]}
    >>> table = differences(compare(features), matched_pairs(names), beside)
    >>> table[["aspect", "direction", "pairs"]].to_numpy().tolist()
    [['version', 'between them', 2], ['version', 'element', 2]]
    """
    rows = []
    for (aspect, level), part in pairs.groupby(["aspect", "level"]):
        between = [*zip(part["source"], part["target"], strict=True)]
        rivals = {"between them": between}
        for name, known in references.items():
            rivals[name] = [pair for _, target in between for pair in known if pair[1] == target]
        for direction, others in rivals.items():
            targets = {target for _, target in others}
            same_targets = [pair for pair in between if pair[1] in targets]
            numbers = *comparison.over(others), *comparison.ratio(same_targets, others)
            rows.append((aspect, level, direction, len(between), *numbers))
    numbers = [number + end for number in ("error", "ratio") for end in ("", "_low", "_high")]
    columns = ["aspect", "level", "direction", "pairs", *numbers]
    return pd.DataFrame(rows, columns=columns).dropna(subset="error")


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
    """How the weights of two checkpoints are related; see `matched_pairs`."""
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
