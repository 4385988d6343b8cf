"""What a run was about and what it found, in sentences of Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from ase import Atoms

from .comparison import Estimate
from .features import Features, common_structures
from .results import REFERENCE


def about(
    dataset: str,
    structures: Sequence[Atoms],
    features: Mapping[str, Features],
    missing: Mapping[str, str],
) -> str:
    """Which structures and models a study stands on, and which were left out, and why.

    Parameters
    ----------
    dataset
        Its name or file.
    structures
        All that were given to the models.
    features, missing
        From `features_by_name`.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from umlip_latents import features_by_name
    >>> cells = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)]
    >>> about("mine.xyz", cells, *features_by_name(cells, ["element"], progress=False))
    '`mine.xyz`: 2 structures that every model accepts, 3 atoms of 3 elements.'
    """
    common = common_structures(list(features.values()))[0]
    n_elements = len(np.unique(common.numbers))
    text = (
        f"`{dataset}`: {len(common.kept)} structures that every model accepts, "
        f"{len(common.numbers)} atoms of {n_elements} element{'s' if n_elements > 1 else ''}."
    )
    dropped = {i: why for f in features.values() for i, why in f.dropped.items()}
    if dropped:
        named = [f"{i} ({structures[i].symbols}): {dropped[i]}" for i in sorted(dropped)[:5]]
        rest = f"; and {len(dropped) - 5} more" if len(dropped) > 5 else ""
        text += f" Left out: structure {'; '.join(named)}{rest}."
    if missing:
        why = next(iter(missing.values()))
        text += f" Not among the models here: {', '.join(missing)}; of the first: {why}"
    return text


def full_scale(notebook: str, missing: Mapping[str, str]) -> str:
    """Where a build lacks models: what the run at full scale found; nothing where it lacks none.

    Parameters
    ----------
    notebook
        Its name, which its result file has, too.
    missing
        From `features_by_name`.

    Examples
    --------
    >>> full_scale("03_comparison", {})
    ''
    """
    file = REFERENCE / f"{notebook}.json"
    if not missing or not file.is_file():
        return ""
    content = json.loads(file.read_text(encoding="utf-8"))
    made = f"profile {content['profile']}, commit {content['provenance']['commit']}"
    words = (
        f"This build lacks {', '.join(missing)}. **At full scale**, with them, was found ({made})"
    )
    return f"{words}:\n\n{listed(content['findings'])}"


def listed(findings: Sequence[Mapping[str, str]]) -> str:
    """Questions and findings as a list.

    Examples
    --------
    >>> listed([{"question": "Is it so?", "finding": "it is"}])
    '- **Is it so?** It is.'
    """
    return "\n".join(
        f"- **{f['question']}** {f['finding'][:1].upper()}{f['finding'][1:]}." for f in findings
    )


def verdict(ratio: Estimate, larger: str, smaller: str, same: str) -> str:
    """The word for a ratio whose interval lies above 1, below 1, or on both sides of it.

    Examples
    --------
    >>> words = "more", "less", "as much, as far as can be told"
    >>> verdict(Estimate(1.4, 1.2, 1.7), *words), verdict(Estimate(0.8, 0.6, 1.1), *words)
    ('more', 'as much, as far as can be told')
    """
    return larger if ratio.low > 1 else smaller if ratio.high < 1 else same


def span(values: Mapping[str, float], form: str = ".2f") -> str:
    """The smallest and the largest of some numbers, and whose they are.

    Examples
    --------
    >>> span({"a": 0.51, "b": 0.23, "c": 0.4})
    '0.23 (b) to 0.51 (a)'
    >>> span({"a": 1, "b": 1}, ".0%"), span({"a": 1}, ".0%")
    ('100% (each)', '100% (a)')
    """
    found = pd.Series(values)
    low, high = found.idxmin(), found.idxmax()
    if low == high:
        return f"{found[low]:{form}} ({low if len(found) == 1 else 'each'})"
    return f"{found[low]:{form}} ({low}) to {found[high]:{form}} ({high})"


def estimates(values: Mapping[str, Estimate]) -> str:
    """Numbers with their intervals, each after what it is of; NaN, where nothing was, is left out.

    Examples
    --------
    >>> nothing = Estimate(float("nan"))
    >>> estimates({"A to B": Estimate(0.5, 0.41, 0.62), "A to A": nothing, "B to A": Estimate(0.7)})
    'A to B 0.50 [0.41, 0.62], B to A 0.70'
    """
    return ", ".join(f"{name} {value}" for name, value in values.items() if value.value >= 0)
