"""What a run was about and what it found, in sentences of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from .comparison import Estimate
from .extraction import Features, common_structures


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
    text = (
        f"`{dataset}`: {len(common.kept)} structures that every model accepts, "
        f"{len(common.numbers)} atoms of {len(np.unique(common.numbers))} elements."
    )
    dropped = {i: why for f in features.values() for i, why in f.dropped.items()}
    if dropped:
        named = [f"{i} ({structures[i].symbols}): {dropped[i]}" for i in sorted(dropped)[:5]]
        rest = f"; and {len(dropped) - 5} more" if len(dropped) > 5 else ""
        text += f" Left out: structure {'; '.join(named)}{rest}."
    for name, why in missing.items():
        text += f" Not among the models here, `{name}`: {why.rstrip('.')}."
    return text


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


def estimates(values: Mapping[str, Estimate]) -> str:
    """Numbers with their intervals, each after what it is of; NaN, where nothing was, is left out.

    Examples
    --------
    >>> nothing = Estimate(float("nan"))
    >>> estimates({"A to B": Estimate(0.5, 0.41, 0.62), "A to A": nothing, "B to A": Estimate(0.7)})
    'A to B 0.50 [0.41, 0.62], B to A 0.70'
    """
    return ", ".join(f"{name} {value}" for name, value in values.items() if value.value >= 0)
