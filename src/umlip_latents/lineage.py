"""What sets two published checkpoints apart, read from the catalogue."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import pandas as pd

from .comparison import Comparison
from .models.catalog import list_models

# what the catalogue says of a training, and the word for a difference in it
ASPECTS = {
    "architecture": "architecture",
    "trained_on": "data",
    "functional": "functional",
    "objective": "objective",
}
NOTHING = "another training"
TUNED = ", fine-tuned"
KINSHIP = {"tuned": TUNED, "back": TUNED, "kin": ", common start", "same": ", one network"}


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
        if both are read from one file, and ``scratch`` if they have nothing in common; ``aspect``
        says both in words, with ``version`` for an architecture of the same family; ``level`` is
        the target's family.

    Examples
    --------
    >>> natural_experiments(["chgnet-0.3.0", "chgnet-r2scan"]).iloc[0, 2:].tolist()
    ['data and functional', 'tuned', 'data and functional, fine-tuned', 'CHGNet']
    """
    catalogue = list_models()
    known = [name for name in names if {*ASPECTS} <= {*catalogue.get(name, ())}]
    rows = []
    for source, target in permutations(known, 2):
        one, other = catalogue[source], catalogue[target]
        differs = [word for aspect, word in ASPECTS.items() if one[aspect] != other[aspect]]
        if differs[:1] != ["architecture"] or not {"data", "functional"} & {*differs}:
            what = " and ".join(differs) or NOTHING
            how = start(source, target)
            akin = one["family"] == other["family"]
            aspect = what.replace("architecture", "version" if akin else "architecture")
            aspect += KINSHIP.get(how, "")
            rows.append((source, target, what, how, aspect, other["family"]))
    columns = ["source", "target", "differs", "start", "aspect", "level"]
    return pd.DataFrame(rows, columns=columns)


def differences(
    found: Comparison,
    pairs: pd.DataFrame,
    beside: Mapping[str, Sequence[tuple[str, str]]],
) -> pd.DataFrame:
    """GFREs between checkpoints that differ in the same things, beside others of their targets.

    Parameters
    ----------
    found
        Of the checkpoints and whatever stands beside them, GFREs among its metrics.
    pairs
        From `natural_experiments`: those of one ``aspect`` and ``level`` are taken together.
    beside
        Name to ordered pairs: of these, those with the same targets.

    Returns
    -------
    pandas.DataFrame
        A row per aspect, level and ``direction``, which is ``between them`` or a name of `beside`:
        the number of ordered ``pairs``, the mean ``error``, and the ``ratio`` of the error between
        them to this one, each with `_low` and `_high`. Where nothing was compared, there is no row.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from umlip_latents import compare, features_by_name
    >>> cells = [bulk("NaCl", "rocksalt", a=a) * (1, 1, 2) for a in (5.4, 5.5, 5.6, 5.7, 5.8, 5.9)]
    >>> names = ["chgnet-0.2.0", "chgnet-0.3.0"]
    >>> features, _ = features_by_name(cells, [*names, "element"], progress=False)
    >>> beside = {"element": [("element", name) for name in names]}
    >>> table = differences(compare(features), natural_experiments(names), beside)
    >>> table[["aspect", "direction", "pairs"]].to_numpy().tolist()
    [['version', 'between them', 2], ['version', 'element', 2]]
    """
    rows = []
    for (aspect, level), part in pairs.groupby(["aspect", "level"]):
        between = [*zip(part["source"], part["target"], strict=True)]
        others = {
            name: [pair for goal in part["target"] for pair in known if pair[1] == goal]
            for name, known in beside.items()
        }
        for name, same in ({"between them": between} | others).items():
            these = [pair for pair in between if pair[1] in {target for _, target in same}]
            numbers = *found.over(same), *found.ratio(these, same)
            rows.append((aspect, level, name, len(between), *numbers))
    numbers = [number + end for number in ("error", "ratio") for end in ("", "_low", "_high")]
    columns = ["aspect", "level", "direction", "pairs", *numbers]
    return pd.DataFrame(rows, columns=columns).dropna(subset="error")


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
