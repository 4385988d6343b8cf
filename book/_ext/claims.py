"""What two papers claim, beside what the full-scale run of this book found."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from umlip_latents.measures.comparison import Estimate
from umlip_latents.resources import PUBLISHED, REFERENCE, InputError

UNTESTED = "cannot be tested here"
BADGES = {"agrees": "success", "differs": "warning", "left open": "info", UNTESTED: "muted"}
# the chapters whose full-scale results are of the first edition
OLD = ("10",)


def claims_page(claims: Mapping[str, Mapping], folder: Path = REFERENCE) -> dict[str, str]:
    """The parts of the page that holds the claims of papers against the results of a run.

    Parameters
    ----------
    claims
        By their names; ``data/claims.yaml`` tells what an entry holds.
    folder
        With the results.

    Returns
    -------
    dict of str
        Markdown: the claims of each section, by its name, and how many got a verdict, by its words.

    Raises
    ------
    InputError
        A number of a claim is nowhere in the results; the sentence names the claim.
    """
    verdicts, parts = [], {}
    for name, claim in claims.items():
        word, text = judge(name, claim, folder)
        verdicts.append(word)
        parts[claim["section"]] = parts.get(claim["section"], "") + text
    return parts | {word: str(verdicts.count(word)) for word in BADGES}


def judge(name: str, claim: Mapping, folder: Path) -> tuple[str, str]:
    """The verdict on a claim, and what folds out below it: both sides' numbers, and why."""
    specs, paper = claim.get("here", {}), {"file": PUBLISHED, "columns": ["value"]}
    here = {what: measured(name, spec, folder) for what, spec in specs.items()}
    queries = claim["there"].items()
    there = {what: q and measured(name, paper | {"query": q}, folder) for what, q in queries}
    word = verdict(claim["rule"], here) if here else UNTESTED
    old = any(spec["file"][:2] in OLD for spec in specs.values())
    edition = " Results of the first edition." if old else ""
    badge = f"{{bdg-{BADGES[word]}}}`{word}`"
    lines = [
        f"(claim-{name})=\n:::{{dropdown}} {badge} **{claim['short']}.** {claim['place']}",
        f":class-title: sd-font-weight-normal\n\n{claim['claim']}\n",
        f"- **Paper:** {format_numbers(there)}.",
        f"- **Here:** {format_numbers(here) or 'not measured'}.{edition}",
        f"- **Why:** {claim['why'][word]}",
        f"- **Look at:** {claim['counterpart']}\n:::\n\n",
    ]
    return word, "\n".join(lines)


def measured(claim: str, spec: Mapping, folder: Path) -> Estimate:
    """A number with its interval; or, of numbers that have none, mean, smallest and largest.

    Either the one that a ``.json`` quotes `after` some words, or the mean over the rows of a
    ``.csv`` that a `query` finds. Its interval is the mean of theirs, which is wider than that of
    the mean itself, as the errors of different pairs do not rise and fall quite together.
    """
    file, columns = folder / spec["file"], spec.get("columns", ["error", "low", "high"])
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if "after" in spec:
        quoted = re.escape(spec["after"]) + r" ([-\d.]+) \[([-\d.]+), ([-\d.]+)\]"
        rows = pd.DataFrame(re.findall(quoted, text)[:1]).astype(float)
    else:
        rows = pd.read_csv(file).query(spec["query"])[columns].dropna() if text else pd.DataFrame()
    if rows.empty:
        raise InputError(f"{claim}: no evidence in {file.name} for {spec}.")
    alone = rows.agg(["mean", "min", "max"]).iloc[: 3 if len(rows) > 1 else 1, 0]
    return Estimate(*(rows.mean() if len(rows.T) > 1 else alone))


def verdict(rule: Mapping[str, str | float], numbers: Mapping[str, Estimate]) -> str:
    """Whether the first number lies ``below`` or ``above`` a limit or another one, by intervals.

    Examples
    --------
    >>> numbers = {"ours": Estimate(0.5, 0.4, 0.6), "the element": Estimate(0.8, 0.7, 0.9)}
    >>> [verdict(rule, numbers) for rule in ({"below": "the element"}, {"above": 0.55})]
    ['agrees', 'left open']
    """
    [(side, other)] = rule.items()
    ours, limit = next(iter(numbers.values())), numbers.get(other, Estimate(*[other] * 3))
    found = {"below": ours.high < limit.low, "above": ours.low > limit.high}
    return "left open" if not any(found.values()) else "agrees" if found[side] else "differs"


def format_numbers(numbers: Mapping[str, Estimate | None]) -> str:
    """Numbers, each with what it is of."""
    return "; ".join(f"**{number}** {what}" if number else what for what, number in numbers.items())
