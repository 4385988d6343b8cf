"""What a run was about and what it found, in sentences of Markdown."""

import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from ase import Atoms
from IPython.core.pylabtools import print_figure
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from umlip_latents.features.table import Features, common_structures
from umlip_latents.measures.comparison import Estimate
from umlip_latents.resources import REFERENCE


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
    words = f"This build lacks {', '.join(missing)}. **At full scale** was found ({made})"
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


def say(*paragraphs: str) -> None:
    """Display Markdown, and nothing for a paragraph without words.

    Examples
    --------
    >>> say("", "The error falls.")
    <IPython.core.display.Markdown object>
    """
    for words in filter(None, paragraphs):
        display(Markdown(words))


def show(figure: Figure, seen: str, reading: str = "") -> None:
    """Display a figure, what is seen in it, and how to read it.

    The alternative text, for those who hear the page, is made of the titles and the labels of the
    axes and of what is seen.

    Parameters
    ----------
    figure
        Any.
    seen
        A sentence, from the numbers that the figure shows.
    reading
        Further sentences: what the axes, colours and lines mean, which baseline to look at.

    Examples
    --------
    >>> from umlip_latents.plots.style import label_axes
    >>> from matplotlib.pyplot import subplots
    >>> figure = label_axes(subplots()[1], xlabel="order", ylabel="GFRE")
    >>> show(figure, "The error falls from 0.6 to 0.3.")
    <IPython.core.display.HTML object>
    """
    named = []
    for axis in figure.axes:
        labels = " against ".join(filter(None, (axis.get_ylabel(), axis.get_xlabel())))
        if axis.get_xlabel():
            named.append(": ".join(filter(None, (axis.get_title(), labels))))
    alt = escape(" ".join(". ".join(filter(None, ["; ".join(named), seen])).split()))
    picture = print_figure(figure, base64=True, dpi=150)
    display(
        HTML(
            f'<figure class="result"><img alt="{alt}" src="data:image/png;base64,{picture}">'
            f"<figcaption><strong>{escape(seen)}</strong> {escape(reading)}</figcaption></figure>"
        )
    )


def sorted_out(ratios: Mapping[str, Estimate], larger: str, smaller: str, same: str) -> str:
    """Ratios by what can be said of them: above 1, below 1, or not to be told from it.

    Examples
    --------
    >>> ratios = {"data": Estimate(1.4, 1.2, 1.7), "loss": Estimate(0.8, 0.6, 1.1)}
    >>> sorted_out(ratios, "more", "less", "not to be told apart")
    'more: data 1.40 [1.20, 1.70]; not to be told apart: loss 0.80 [0.60, 1.10]'
    """
    said: dict[str, list[str]] = {word: [] for word in (larger, smaller, same)}
    for what, ratio in ratios.items():
        said[verdict(ratio, larger, smaller, same)].append(f"{what} {ratio}")
    return "; ".join(f"{word}: {', '.join(those)}" for word, those in said.items() if those)


def trend(table: pd.DataFrame, x: str, y: str, hue: str) -> str:
    """How lines go from their first to their last point: which rise, which fall, by how much.

    Examples
    --------
    >>> table = pd.DataFrame({"n": [1, 2] * 2, "error": [0.5, 0.4, 0.2, 0.6], "model": [*"aabb"]})
    >>> trend(table, "n", "error", "model")
    'rises for b (0.20 to 0.60) and falls for a (0.50 to 0.40)'
    """
    said: dict[str, list[str]] = {"rises": [], "falls": [], "does not change": []}
    for name, part in table.groupby(hue, sort=False):
        first, last = part.groupby(x)[y].mean().iloc[[0, -1]].round(2)
        word = "rises" if last > first else "falls" if last < first else "does not change"
        said[word].append(f"{name} ({first:.2f} to {last:.2f})")
    parts = [f"{word} for {', '.join(those)}" for word, those in said.items() if those]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def above_line(x: pd.Series, y: pd.Series) -> str:
    """How many of some points lie above the line of equality, and by which factor at the median.

    Examples
    --------
    >>> above_line(pd.Series([0.2, 0.5, 0.4]), pd.Series([0.4, 0.6, 0.3]))
    '2 of 3 above the line, at the median 1.20 times as large'
    """
    n_above = int((y.to_numpy() > x.to_numpy()).sum())
    ratio = np.median(y.to_numpy() / x.to_numpy())
    return f"{n_above} of {len(x)} above the line, at the median {ratio:.2f} times as large"
