"""Sphinx extension: fills the ``{{ name }}`` places of pages with tables of registries and files.

No sentence comes from here. The result files of this build lie beside the pages, in ``results``.
"""

import json
from pathlib import Path

import pandas as pd
from claims import claims_tables
from sphinx.application import Sphinx
from sphinx.config import Config

from umlip_latents import list_datasets, list_models
from umlip_latents.features.shipped import shipped_models
from umlip_latents.resources import PUBLISHED, REFERENCE, provenance, registry


def substitutions(results: Path) -> dict[str, str | dict[str, str]]:
    """Markdown for the ``{{ name }}`` places of the pages."""
    made, models = provenance(), models_table()
    ships = set(shipped_models("embedded-third")) | set(shipped_models("alexandria-random-1k"))
    measured = models["name"].str.strip("`").isin(ships)
    ours = models["name"].str.startswith("`mini-mace")
    return {
        "commit": made["commit"],
        "versions": ", ".join(f"{name} {number}" for name, number in made["versions"].items()),
        "models_measured": markdown(models[measured]),
        "models_known": markdown(models[~measured & ~ours]),
        "models_ours": markdown(models[~measured & ours]),
        "datasets": markdown(datasets_table()),
        "tables": downloads({"this build": results, "long runs": REFERENCE}),
        "results_published": published_tables(),
        "claims": claims_tables(registry("claims")),
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


def downloads(folders: dict[str, Path]) -> str:
    """The result tables of some folders beside the pages, a row per notebook."""
    rows = [
        {"notebook": file.name.split("-")[0], "run": run, "file": f"{{download}}`{name} <{path}>`"}
        for run, folder in folders.items()
        for file in sorted(folder.glob("*.csv"))
        for name, path in [(file.stem.split("-")[1], f"../{file.parent.name}/{file.name}")]
    ]
    table = pd.DataFrame(rows).pivot_table("file", "notebook", "run", ", ".join, sort=False)
    return markdown(table, index=True)


def models_table() -> pd.DataFrame:
    """The catalogue."""
    return pd.DataFrame(
        {
            "name": f"`{name}`",
            "family": entry["family"],
            "training data": entry["training_data"],
            "functional": entry["functional"],
            "fine-tuned from": f"`{entry['started_from']}`" if "started_from" in entry else None,
            "parameters": f"{entry['parameters']:,}" if "parameters" in entry else None,
            "backbone / last layer": " / ".join(map(str, entry.get("widths", {}).values())) or None,
            "licence": entry["licence"],
            "reference": citation(entry["citation"]),
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
            "features ship": "yes" if shipped_models(name) else "no",
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


def benchmark_tables(file: Path) -> str:
    """What ``make bench`` measured."""
    content = json.loads(file.read_text(encoding="utf-8"))
    texts = [f"`commit {content['provenance']['commit']}`"]
    for section in content["sections"]:
        table = pd.DataFrame(section["rows"], columns=section["header"])
        texts.append(f"**{section['title']}**\n\n{markdown(table)}")
    return "\n\n".join(texts)


def fill_pages(app: Sphinx, config: Config) -> None:
    """Fill the places."""
    values = substitutions(Path(app.srcdir, "results"))
    config.myst_substitutions = {**config.myst_substitutions, **values}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step."""
    app.connect("config-inited", fill_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
