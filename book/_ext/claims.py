"""Sphinx extension: the claims of two papers beside this book, as one figure and as paragraphs."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.config import Config

from umlip_latents.plots.style import finish, save_figure, use_style
from umlip_latents.resources import registry

BADGES = {"agrees": "success", "differs": "warning", "left open": "info", "not tested": "muted"}
COLOURS = {"agrees": "#009E73", "differs": "#D55E00", "left open": "#0072B2"}


def claims_tables(claims: Mapping[str, Mapping]) -> dict[str, str]:
    """Markdown of each section's claims, by its name, and how many got a verdict, by its words.

    Parameters
    ----------
    claims
        By their names; ``data/claims.yaml`` says what an entry holds.
    """
    parts: dict[str, str] = {}
    for name, claim in claims.items():
        parts[claim["section"]] = parts.get(claim["section"], "") + paragraph(name, claim)
    verdicts = [claim["verdict"] for claim in claims.values()]
    return parts | {word: str(verdicts.count(word)) for word in BADGES}


def paragraph(name: str, claim: Mapping) -> str:
    """A claim, its verdict, both sides' numbers, and where to look."""
    badge = f"{{bdg-{BADGES[claim['verdict']]}}}`{claim['verdict']}`"
    chapter = f" ([](../notebooks/{claim['chapter']}.ipynb))" if "chapter" in claim else ""
    place = claim["place"][0].upper() + claim["place"][1:]
    text = f"**{claim['claim']}** {badge} *{place}.* {claim['text']}{chapter}"
    return f"(claim-{name})=\n\n{text}\n\n"


def draw_claims(claims: Mapping[str, Mapping]) -> Figure:
    """The paper's number and ours, a row for each claim that has both, coloured by the verdict."""
    both = [claim for claim in claims.values() if "here" in claim]
    figure, axis = plt.subplots(figsize=(5, 0.5 + 0.58 * len(both)))  # narrow, for a phone
    for row, claim in enumerate(both):
        colour = COLOURS[claim["verdict"]]
        axis.plot([claim["paper"], claim["here"]], [row, row], color=colour, linewidth=2)
        axis.plot(claim["paper"], row, "o", color=colour, markerfacecolor="white", markersize=8)
        axis.plot(claim["here"], row, "o", color=colour, markersize=8)
        axis.text(0.01, row - 0.2, fill(claim["claim"][:-1], 56), va="bottom", fontsize=10)
    axis.set_yticks(range(len(both)), [""] * len(both))
    axis.set(xlim=(0, 1), ylim=(len(both) - 0.6, -0.8))
    axis.set_xlabel("hollow: the paper, full: this book")
    handles = [plt.Line2D([], [], color=colour, label=word) for word, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False)
    return finish(figure)


def write_figure(app: Sphinx, config: Config) -> None:
    """Put the figure beside the pages that are built."""
    use_style()
    save_figure(draw_claims(registry("claims")), Path(app.srcdir, "book", "images", "claims.png"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step."""
    app.connect("config-inited", write_figure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
