"""Where a model stands among the published ones, as tables, as text and as one HTML page."""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import pandas as pd

from ..features.extraction import Model, features_by_layer, find_model, load_features
from ..features.shipped import read_readout, read_shipped, shipped_models
from ..features.table import common_structures
from ..measures.compare import compare
from ..measures.comparison import Comparison
from ..measures.regression import FitOptions
from ..models.base import Readout
from ..models.catalogue import list_models
from ..plots.tree import family_tree
from ..resources import InputError, write_file
from ..structures.read import load_structures
from .matched_pairs import relation
from .properties import effective_dimension, element_share, extreme_share
from .stitching import stitching_errors

TEMPLATE = Path(__file__).with_name("report.html")


@dataclass
class Placement:
    """A model among the published ones; from `place`.

    Attributes
    ----------
    name, dataset, layer
        Of the model, and where it was compared.
    table
        A row per published checkpoint and baseline, nearest first. ``distance`` is the mean of the
        GFREs of both directions; ``gfre_to`` and ``gfre_from`` are those from the model to it and
        back, with `_low` and `_high`; ``within_to`` and so on the same within elements,
        ``lfre_to`` and so on by LFRE, with the `_neighbours` mean beside it; ``meV_to`` and so on
        the `stitching_errors` in meV/atom, with the target's `_spread`, where its last layer and
        its readout are at hand.
    properties
        Of all features, by name: ``element_share``, ``effective_dimension``, ``extreme_share``.
    comparison
        The GFREs of all pairs.
    retention
        For a fine-tuned model 1 - GFRE(start → model) / GFRE(sibling → model), with its interval,
        both errors and the names of both; empty without a start.
    """

    name: str
    dataset: str
    layer: str
    table: pd.DataFrame
    properties: pd.DataFrame
    comparison: Comparison
    retention: dict[str, Any]

    def tree(self) -> plt.Figure:
        """The family tree in which the model stands."""
        known, names = list_models(), self.comparison.models
        families = {name: known.get(name, {}).get("family", "yours") for name in names}
        tuned = [name for name in names if "started_from" in known.get(name, {})]
        matrix = self.comparison.matrix("gfre").loc[names, names]
        return family_tree(matrix, families, fine_tuned=tuned, highlighted=[self.name])


def place(
    model: Model,
    dataset: str = "embedded-third",
    *,
    start: Model | None = None,
    layer: str = "backbone",
    n_splits: int = 5,
    progress: bool = True,
) -> Placement:
    """Compare a model with all published checkpoints whose features ship.

    Only the features of the model itself are extracted.

    Parameters
    ----------
    model
        A name, a file or an object, as in `extract_features`.
    dataset
        ``"embedded-third"``, which comes with the package, or ``"alexandria-random-1k"``, whose
        file is fetched.
    start
        What the model was fine-tuned from, for the retention: a published checkpoint, or any
        other model.
    layer
        ``"backbone"``, or, on Alexandria, ``"last"``.
    n_splits
        Random splits by structure.
    progress
        As in `extract_features`.

    Raises
    ------
    InputError
        No features ship for that data set and layer, an unknown model or start, or one that
        refuses every structure.

    Examples
    --------
    >>> found = place("element", n_splits=1, progress=False)
    >>> found.table.index[0]  # the copy that ships
    'element'
    """
    panel, known = shipped_models(dataset, layer), list_models()
    if not panel:
        raise InputError(f"{dataset}, {layer}: no features ship to compare with.")
    structures = load_structures(dataset)
    mine = features_by_layer(structures, model, progress=progress)
    name = mine[layer].model if mine[layer].model not in panel else f"{mine[layer].model} (yours)"
    features = {name: mine[layer], **load_features(dataset, panel, layer)}
    if start is not None and str(start) not in panel:
        theirs = features_by_layer(structures, start, progress=progress)[layer]
        start = theirs.model if theirs.model not in features else f"{theirs.model} (start)"
        features[start] = theirs
    baselines = [n for n in panel if known[n]["training_data"] == "none"]
    how = {"n_splits": n_splits, "baselines": baselines}
    own = how | {"options": FitOptions(n_test_local=40, involving=[name])}  # atoms of each split
    found = compare(features, **how)
    tables = {"gfre": found.table}
    with suppress(InputError):  # of a model that knows nothing but the element
        tables["within"] = compare(features, within_element=True, **own).table
    tables["lfre"] = compare(features, ["lfre"], **own).table
    targets, readouts = {}, {}
    for other in panel:
        with suppress(InputError):  # none ships
            readouts[other] = read_readout(other)
            targets[other] = read_shipped(dataset, other, "last")
    tables["meV"] = stitching_errors({name: mine[layer]}, targets, readouts, n_splits)
    with suppress(InputError, AttributeError):  # not every model says how it reads its energy
        readout = {name: Readout(*find_model(model).energy_readout())}
        back = stitching_errors(features, {name: mine["last"]}, readout, n_splits)
        tables["meV"] = pd.concat([tables["meV"], back])
    table = errors_of(name, tables)
    table.insert(0, "distance", table[["gfre_to", "gfre_from"]].mean(axis=1))
    of_all = {}
    for n, one in zip(features, common_structures([*features.values()]), strict=True):
        share, x = element_share(one.features, one.numbers), one.features
        of_all[n] = share, effective_dimension(x), extreme_share(x)
    shown = ["element_share", "effective_dimension", "extreme_share"]
    properties = pd.DataFrame.from_dict(of_all, "index", columns=shown).rename_axis("model")
    table = table.sort_values("distance").rename_axis("model")
    kept = retention(name, start, found) if start else {}
    return Placement(name, dataset, layer, table, properties, found, kept)


def errors_of(name: str, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Errors from a model to all others and back, with their intervals and what to compare with."""
    parts, shown = [], ["error", "low", "high", "neighbours", "spread"]
    for kind, rows in tables.items():
        for way, own, other in (("to", "source", "target"), ("from", "target", "source")):
            part = rows[(rows[own] == name) & (rows[other] != name)].set_index(other).filter(shown)
            parts.append(part.add_prefix(f"{kind}_{way}_"))
    table = pd.concat(parts, axis=1).dropna(axis=1, how="all")
    return table.rename(columns=lambda column: column.removesuffix("_error"))


def retention(name: str, start: str, comparison: Comparison) -> dict[str, Any]:
    """Retention against the nearest network of the start's family that is unrelated to it.

    Of a start that is not published nobody knows the family: any published network stands in.
    """
    known, errors = list_models(), comparison.matrix("gfre")[name]
    published = [n for n in comparison.models if n in known and n != start]
    family = known.get(start, {}).get("family")
    kin = [n for n in published if known[n]["family"] == family and not relation(n, start)]
    siblings = kin if family else [n for n in published if "architecture" in known[n]]
    found: dict[str, Any] = {"start": start, "gfre": float(errors[start])}
    if siblings:
        sibling = errors[siblings].idxmin()
        ratio = comparison.ratio([(start, name)], [(sibling, name)])
        found |= {"sibling": sibling, "sibling_gfre": float(errors[sibling])}
        found |= {"retention": 1 - ratio.value, "low": 1 - ratio.high, "high": 1 - ratio.low}
    return found


def error_table(placement: Placement) -> pd.DataFrame:
    """The errors with two digits, intervals in brackets behind their number."""
    text = placement.table.map("{:.2f}".format)
    for low in [column for column in text if column.endswith("_low")]:
        name = low.removesuffix("_low")
        text[name] += " [" + text.pop(low) + ", " + text.pop(f"{name}_high") + "]"
    text.columns = text.columns.str.replace("_", " ")
    return text.replace(["nan [nan, nan]", "nan"], "-").rename_axis(None)


def summary(placement: Placement) -> dict[str, str]:
    """What the placement says in a few numbers and names."""
    found = placement.comparison
    others = placement.table["distance"].drop([*found.baselines, *found.warnings], errors="ignore")
    numbers = placement.properties.loc[placement.name].to_dict() | placement.retention
    rows = {
        "structures": f"{len(found.structures)} of {placement.dataset}",
        "nearest checkpoint": f"{others.index[0]}, distance {others.iloc[0]:.2f}",
        "farthest checkpoint": f"{others.index[-1]}, distance {others.iloc[-1]:.2f}",
        "not counted": ", ".join(found.warnings) or "none",
        "meV/atom from": "all" if "meV_from" in placement.table else "none: its readout is unknown",
    }
    for key, value in numbers.items():
        rows[key.replace("_", " ")] = value if isinstance(value, str) else f"{value:.2f}"
    return rows


def format_text(placement: Placement) -> str:
    """The summary and the distances, to print."""
    lines = [f"{name:22}{value}" for name, value in summary(placement).items()]
    ways = [f"{kind} {way}" for kind in ("gfre", "meV") for way in ("to", "from")]
    table = error_table(placement).filter(["distance", *ways])
    return "\n".join([f"{placement.name}, {placement.layer}", "", *lines, "", table.to_string()])


def write_report(placement: Placement, path: Path) -> None:
    """One HTML file with the tree, the summary and all errors: no script, no network.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    picture = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none"}):
        placement.tree().savefig(picture, format="svg", bbox_inches="tight")
    page = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True).render(
        vars(placement),
        summary=summary(placement),
        errors=error_table(placement).to_html(border=0),
        tree="<svg" + picture.getvalue().partition("<svg")[2],
    )
    write_file(path, page)
