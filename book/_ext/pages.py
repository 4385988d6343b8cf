"""Sphinx extension: fills the ``{{ name }}`` places of the pages, from result files and registries.

It needs two configuration values: ``latents_profile``, and ``latents_results``, the folder of the
result files of this build. Without them nothing is filled.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from claims import claims_page
from sphinx.application import Sphinx
from sphinx.config import Config

from umlip_latents import list_datasets, list_models
from umlip_latents.plots.matrices import error_heat_maps
from umlip_latents.plots.style import save_figure, use_style
from umlip_latents.resources import PUBLISHED, REFERENCE, provenance, registry

ELEMENT = "the bare element"


def substitutions(profile: str, results: Path) -> dict[str, str | dict[str, str]]:
    """Markdown for the ``{{ name }}`` places of the pages."""
    made = provenance()
    return {
        "profile": profile,
        "commit": made["commit"],
        "versions": ", ".join(f"{name} {number}" for name, number in made["versions"].items()),
        "hero": hero(architectures()),
        "headlines": headlines(results),
        "headlines_full": headlines(REFERENCE),
        "findings": findings(results),
        **by_use("models", models_table(), results, REFERENCE),
        **by_use("datasets", datasets_table(), results, REFERENCE),
        "tables": downloads({"this build": results, "full scale": REFERENCE}),
        "results_published": published_tables(),
        "cumulant_steps": cumulant_steps({"this build": results, "full scale": REFERENCE}),
        "claims": claims_page(registry("claims")),
        "benchmarks": benchmark_tables(REFERENCE.parent / "benchmarks.json"),
        "scale": benchmark_tables(REFERENCE.parent / "scale.json"),
    }


def markdown(table: pd.DataFrame, *, index: bool = False) -> str:
    r"""A table of texts, integers and errors in Markdown: two digits, and a dash for none.

    Examples
    --------
    >>> print(markdown(pd.DataFrame({"model": ["a", "b"], "error": [0.5, None]})))
    | model   | error   |
    |:--------|:--------|
    | a       | 0.50    |
    | b       | -       |
    """
    texts = table.map(lambda v: "-" if pd.isna(v) else f"{v:.2f}" if isinstance(v, float) else v)
    return texts.to_markdown(index=index, disable_numparse=True)


def architectures() -> pd.DataFrame:
    """Mean backbone GFRE from each architecture, and each baseline, to each one, at full scale.

    Returns
    -------
    pandas.DataFrame
        Row = source, column = target: families, and below them ``its untrained twin``, and the
        baselines that are no network. NaN where there is one network of a family alone.
    """
    part = pd.read_csv(REFERENCE / "03_comparison-errors.csv").query(
        "split == 'structure' and kind == 'all' and metric == 'gfre' and layer == 'backbone'"
    )
    catalogue = list_models()
    family = {name: entry["family"] for name, entry in catalogue.items()}
    trained = {n: family[n] for n, entry in catalogue.items() if entry["training_data"] != "none"}
    part = part.assign(target=part["target"].map(trained), row=part["source"].map(trained))
    own = part["source"].map(family) == part["target"]
    part.loc[own & part["row"].isna(), "row"] = "its untrained twin"
    plain = ~part["source"].map(family).isin({*trained.values()})
    part["row"] = part["row"].fillna(part["source"].where(plain))
    named = {"element": ELEMENT, "soap": "SOAP", "symmetry-functions": "symmetry functions"}
    part = part.replace({"row": named})
    matrix = part.dropna(subset=["row", "target"]).pivot_table("error", "row", "target", sort=False)
    return matrix.reindex([*matrix.columns, *matrix.index.difference(matrix.columns)[::-1]])


def hero(matrix: pd.DataFrame) -> str:
    """What the figure of `architectures` shows.

    Examples
    --------
    >>> table = [[None, 0.6], [0.4, None], [0.5, 0.5]]
    >>> hero(pd.DataFrame(table, ["A", "B", ELEMENT], ["A", "B"]))[:48]
    'In 1 of 2 cases a network rebuilds one of anothe'
    """
    own = np.eye(matrix.shape[1], dtype=bool)
    between = matrix.loc[matrix.columns].where(~own).astype(float)
    n_worse = (between > matrix.loc[ELEMENT]).sum(axis=None)
    return (
        f"In {n_worse} of {between.count().sum()} cases a network rebuilds one of another "
        f"architecture worse than {ELEMENT} does."
    )


def draw_architectures(path: Path) -> None:
    """The figure of the front page."""
    use_style()
    matrix = architectures()
    save_figure(error_heat_maps({"": matrix}, n_models=matrix.shape[1]), path)


def headlines(results: Path) -> str:
    """The sentences that chapters have for the front page, each with a link to its chapter."""
    rows = [
        f"- {headline} ([more](../notebooks/{file.stem}.ipynb))"
        for file in sorted(results.glob("*.json"))
        for headline in json.loads(file.read_text(encoding="utf-8")).get("headlines", [])
    ]
    return "\n".join(rows) or "*No chapter of this build has one.*"


def as_list(findings: Sequence[Mapping[str, str]]) -> str:
    """Questions and findings as a list."""
    return "\n".join(
        f"- **{f['question']}** {f['finding'][:1].upper()}{f['finding'][1:]}." for f in findings
    )


def findings(results: Path) -> str:
    """What each notebook found, under a link to it."""
    return "\n\n".join(
        f"**[](../notebooks/{file.stem}.ipynb)**\n\n"
        + as_list(json.loads(file.read_text(encoding="utf-8"))["findings"])
        for file in sorted(results.glob("*.json"))
    )


def downloads(folders: Mapping[str, Path]) -> str:
    """The result tables of some folders beside the pages, a row per notebook."""
    rows = [
        {"notebook": file.name.split("-")[0], "run": run, "file": f"{{download}}`{name} <{path}>`"}
        for run, folder in folders.items()
        for file in sorted(folder.glob("*.csv"))
        for name, path in [(file.stem.split("-")[1], f"../{file.parent.name}/{file.name}")]
    ]
    table = pd.DataFrame(rows).pivot_table("file", "notebook", "run", ", ".join, sort=False)
    return markdown(table, index=True)


def by_use(what: str, table: pd.DataFrame, *folders: Path) -> dict[str, str]:
    """Two tables: the rows whose name stands in a result file, with its chapters, and the others.

    What most chapters name comes first.
    """
    chapters: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in folder.glob("*.csv")):
        link = f"[{file.name[:2]}](../notebooks/{file.stem.partition('-')[0]}.ipynb)"
        for word in file.read_text(encoding="utf-8").replace(",", " ").split():
            chapters.setdefault(f"`{word}`", set()).add(link)
    named = [", ".join(sorted(chapters.get(name, ()))) for name in table["name"]]
    table.insert(1, "chapters", named)
    table = table.sort_values("chapters", key=lambda c: -c.str.len(), kind="stable")
    used = table["chapters"] > ""
    rest = table[~used].drop(columns="chapters")
    return {f"{what}_measured": markdown(table[used]), f"{what}_known": markdown(rest)}


def models_table() -> pd.DataFrame:
    """The catalogue."""
    return pd.DataFrame(
        {
            "name": f"`{name}`",
            "family": entry["family"],
            "training data": entry["training_data"],
            "functional": entry["functional"],
            "parameters": f"{entry['parameters']:,}" if "parameters" in entry else None,
            "backbone / last layer": " / ".join(map(str, entry.get("widths", {}).values())) or None,
            "licence": entry["licence"],
            "reference": citation(entry["citation"]),
            "runs offline": "yes" if entry["offline"] else "no",
        }
        for name, entry in list_models().items()
    )


def datasets_table() -> pd.DataFrame:
    """The registered data sets."""
    return pd.DataFrame(
        {
            "name": f"`{name}`",
            "what": entry["description"],
            "structures": f"{entry['structures']:,}" if entry.get("structures") else "unknown",
            "licence": entry["licence"],
            "reference": " ".join(map(citation, entry["citation"])),
        }
        for name, entry in list_datasets().items()
    )


def citation(key: str | None) -> str | None:
    """A citation in MyST."""
    return f"{{cite}}`{key}`" if key else None


def published_tables() -> str:
    """The cross-model matrices of the paper, one for every set of structures and metric."""
    table = pd.read_csv(PUBLISHED).query("study in ('umlips-mad-test', 'umlips-alexandria')")
    texts = []
    for (study, metric), part in table.groupby(["study", "metric"]):
        names = part["source"].unique()
        matrix = part.pivot(index="source", columns="target", values="value").loc[names, names]
        shown = markdown(matrix.rename_axis(r"source \\ target"), index=True)
        texts.append(f"**{metric.upper()}, {study}**\n\n{shown}")
    return "\n\n".join(texts)


def cumulant_steps(folders: Mapping[str, Path]) -> str:
    """GFRE from each cumulant order to the next, of several runs and of the paper."""
    files = {run: folder / "02_cumulants-orders.csv" for run, folder in folders.items()}
    runs = [pd.read_csv(file).assign(run=run) for run, file in files.items() if file.is_file()]
    paper = pd.read_csv(PUBLISHED).query("study == 'cumulant-orders-pet-mad-mad-test'")
    paper = paper.rename(columns={"value": "error"})
    table = pd.concat([*runs, paper.assign(run="paper", dataset="MAD test", model="PET-MAD")])
    order = {end: table[end].str.removeprefix("order-").astype(int) for end in ("source", "target")}
    table = table.assign(step=order["target"])[order["target"] == order["source"] + 1]
    table = table.rename(columns={"dataset": "data set"}).pivot_table(
        "error", ["run", "data set", "model"], "step", aggfunc="median", sort=False
    )
    return markdown(table.rename(columns=lambda n: f"{n - 1} to {n}").reset_index())


def benchmark_tables(file: Path) -> str:
    """What ``make bench`` measured."""
    content = json.loads(file.read_text(encoding="utf-8"))
    made = content["provenance"]
    texts = [
        f"Measured at commit {made['commit']} on {made['machine']} with {made['cores']} cores, "
        f"{made['torch_threads']} of them for PyTorch."
    ]
    for section in content["sections"]:
        table = pd.DataFrame(section["rows"], columns=section["header"])
        texts.append(f"**{section['title']}**\n\n{markdown(table)}")
    return "\n\n".join(texts)


def fill_pages(app: Sphinx, config: Config) -> None:
    """Fill the places, and draw the figure of the front page."""
    if config.latents_results:
        values = substitutions(config.latents_profile, Path(config.latents_results))
        config.myst_substitutions = {**config.myst_substitutions, **values}
        draw_architectures(Path(app.srcdir, "book", "images", "architectures.png"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the configuration values and the step."""
    for name in ("latents_profile", "latents_results"):
        app.add_config_value(name, "", "env", str)
    app.connect("config-inited", fill_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
