"""The book: execute the notebooks with a profile's parameters, fill the pages, build the HTML."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

from .provenance import provenance
from .resources import DATA, PACKAGE, InputError, written_whole

ROOT = PACKAGE.parents[1]
REFERENCE = DATA / "reference-results" / "full"
PUBLISHED = DATA / "published" / "reconstruction_errors.csv"


def save_results(
    folder: str | Path,
    name: str,
    findings: Sequence[Mapping[str, str]],
    **tables: pd.DataFrame,
) -> None:
    """Write what a notebook found: ``<name>.json`` and ``<name>-<table>.csv``.

    Parameters
    ----------
    folder
        Where to; made if it is not there.
    name
        The notebook's name.
    findings
        Rows for the front page, each with ``question`` and ``finding``.
    tables
        Result tables in long form.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for key, table in tables.items():
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        write_text(folder / f"{name}-{key}.csv", text)
    content = {"findings": list(findings), "provenance": provenance()}
    content["profile"] = os.environ.get("UMLIP_LATENTS_PROFILE", "interactive")
    write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def load_profile(name: str) -> dict[str, dict]:
    """Parameters of every notebook that the profile runs, by notebook."""
    path = ROOT / "book" / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise InputError(f"{name}: no such profile ({known}).")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def build(profile: str, output: Path) -> Path:
    """Execute the notebooks of a profile and build the book.

    Parameters
    ----------
    profile
        Name of a file in ``book/profiles``.
    output
        Folder for ``html``, ``results`` (tables), ``features`` (store) and ``source`` (the executed
        notebooks and filled pages).

    Returns
    -------
    Path
        The front page.

    Raises
    ------
    InputError
        Unknown profile, a notebook that stops with an error, or a page that cannot be built.
    """
    parameters = load_profile(profile)
    output = output.resolve()
    source = output / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(output / "results", ignore_errors=True)
    (source / "notebooks").mkdir(parents=True)
    os.environ["UMLIP_LATENTS_PROFILE"] = profile
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if notebook.stem in parameters:
            execute(notebook, source / "notebooks" / notebook.name, parameters, output)
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("profiles"))
    write_contents(source)
    write_config(source, substitutions(profile, output / "results"))
    return build_html(source, output)


def execute(notebook: Path, target: Path, parameters: dict[str, dict], output: Path) -> None:
    """Run one notebook by papermill from its own folder."""
    import papermill

    # relative, so that a page does not tell where it was built
    folders = {
        name: os.path.relpath(output / folder, notebook.parent)
        for name, folder in {"store": "features", "results": "results"}.items()
        if output != ROOT / "_build"
    }
    print(f"executing {notebook.name}", flush=True)
    try:
        papermill.execute_notebook(
            notebook,
            target,
            parameters={**folders, **parameters[notebook.stem]},
            cwd=notebook.parent,
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
        )
    except papermill.PapermillExecutionError as error:
        raise InputError(f"{notebook.name}: stopped with an error:\n{error}") from None


def write_contents(source: Path) -> None:
    """The table of contents, without the notebooks that this profile does not run."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:
        part["chapters"] = [
            chapter
            for chapter in part["chapters"]
            if any((source / chapter["file"]).with_suffix(s).is_file() for s in (".md", ".ipynb"))
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def write_config(source: Path, values: Mapping[str, str]) -> None:
    """The configuration with the values that the pages quote."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["myst_substitutions"] = dict(values)
    (source / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")


def build_html(source: Path, output: Path) -> Path:
    """Call jupyter-book and move the finished pages into place."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(source), "--all"]
    command += ["--path-output", str(source), "--keep-going", "--warningiserror"]
    log = subprocess.run(command, capture_output=True, text=True)
    write_text(output / "jupyter-book.log", log.stdout + log.stderr)
    if log.returncode:
        tail = "\n".join((log.stdout + log.stderr).splitlines()[-30:])
        raise InputError(f"jupyter-book could not build the pages:\n{tail}")
    html = output / "html"
    shutil.rmtree(html, ignore_errors=True)
    (source / "_build" / "html").rename(html)
    return html / "index.html"


# What the pages quote -------------------------------------------------------------------------


def substitutions(profile: str, results: Path) -> dict[str, str]:
    """Markdown for the ``{{ name }}`` places of the pages, all of it from result files."""
    made = provenance()
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return {
        "profile": profile,
        "commit": made["commit"],
        "versions": versions,
        "findings": findings_table(results),
        "models": models_table(),
        "datasets": datasets_table(),
        "results_here": matrix_tables(results),
        "results_full": matrix_tables(REFERENCE),
        "results_published": published_tables(),
        "cumulant_steps": cumulant_steps({"this build": results, "full scale": REFERENCE}),
        "benchmarks": benchmark_tables(DATA / "reference-results" / "benchmarks.json"),
    }


def findings_table(results: Path) -> str:
    """One row per finding, with a link to the notebook that found it."""
    rows = []
    for file in sorted(results.glob("*.json")):
        for finding in json.loads(file.read_text(encoding="utf-8"))["findings"]:
            link = f"[{file.stem[:2]}](../notebooks/{file.stem}.ipynb)"
            rows.append((finding["question"], finding["finding"], link))
    return markdown_table(("question", "what this build found", "notebook"), rows)


def models_table() -> str:
    """The catalogue, without what installed packages add."""
    from .models.catalog import list_models

    rows = [
        (
            f"`{name}`",
            entry["family"],
            entry["training_data"],
            entry["functional"],
            f"{entry['parameters']:,}" if "parameters" in entry else "-",
            " / ".join(map(str, entry.get("widths", {}).values())) or "-",
            entry["licence"],
            citation(entry["citation"]),
            "yes" if entry["offline"] else "no",
        )
        for name, entry in list_models().items()
        if "entry_point" not in entry
    ]
    header = (
        "name",
        "family",
        "training data",
        "functional",
        "parameters",
        "backbone / last layer",
    )
    return markdown_table((*header, "licence", "reference", "runs offline"), rows)


def datasets_table() -> str:
    """The registered data sets."""
    from .structures import list_datasets

    rows = [
        (
            f"`{name}`",
            entry["description"],
            f"{entry['structures']:,}" if entry.get("structures") else "unknown",
            entry["licence"],
            " ".join(citation(key) for key in entry["citation"]),
        )
        for name, entry in list_datasets().items()
    ]
    return markdown_table(("name", "what", "structures", "licence", "reference"), rows)


def citation(key: str) -> str:
    """A citation in MyST, or a dash."""
    return f"{{cite}}`{key}`" if key else "-"


def matrix_tables(folder: Path) -> str:
    """Heat-map tables of notebook 03 found in a folder of results, as Markdown."""
    file = folder / "03_comparison-errors.csv"
    if not file.is_file():
        return "*No such table in this build.*"
    table = pd.read_csv(file)
    table = table[(table["split"] == "structure") & (table["kind"] == "all")]
    texts = []
    for (dataset, layer, metric), part in table.groupby(["dataset", "layer", "metric"]):
        matrix = part.groupby(["source", "target"], sort=False)["value"].median().unstack()
        matrix = matrix.loc[part["source"].unique(), part["source"].unique()]
        texts.append(f"**{metric.upper()}, {layer}, `{dataset}`**\n\n{square_table(matrix)}")
    return "\n\n".join(texts)


def published_tables() -> str:
    """The cross-model matrices of the paper, as Markdown."""
    table = pd.read_csv(PUBLISHED)
    texts = []
    for study in ("umlips-mad-test", "umlips-alexandria"):
        for metric, part in table[table["study"] == study].groupby("metric"):
            matrix = part.pivot(index="source", columns="target", values="value")
            texts.append(f"**{metric.upper()}, {study}**\n\n{square_table(matrix)}")
    return "\n\n".join(texts)


def cumulant_steps(folders: Mapping[str, Path]) -> str:
    """GFRE from each cumulant order to the next, of several runs and of the paper."""
    parts = []
    for run, folder in folders.items():
        if (file := folder / "02_cumulants-orders.csv").is_file():
            parts.append(pd.read_csv(file).assign(run=run))
    paper = pd.read_csv(PUBLISHED).query("study == 'cumulant-orders-pet-mad-mad-test'")
    paper = paper.assign(
        run="paper",
        dataset="MAD test",
        model="PET-MAD",
        source_order=paper["source"].str.removeprefix("order-").astype(int),
        target_order=paper["target"].str.removeprefix("order-").astype(int),
        gfre=paper["value"],
    )
    table = pd.concat([*parts, paper])
    table = table[table["target_order"] == table["source_order"] + 1]
    table = table.pivot_table(
        index=["run", "dataset", "model"], columns="target_order", values="gfre", sort=False
    )
    header = ("run", "data set", "model", *(f"{n - 1} to {n}" for n in table.columns))
    cells = [
        (*index, *("-" if pd.isna(v) else f"{v:.2f}" for v in row))
        for index, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return markdown_table(header, cells)


def benchmark_tables(file: Path) -> str:
    """What `make bench` measured, as Markdown."""
    if not file.is_file():
        return "*Not measured yet: `make bench`.*"
    content = json.loads(file.read_text(encoding="utf-8"))
    made = content["provenance"]
    texts = [
        f"Measured at commit {made['commit']} on {made['machine']} with {made['cores']} cores, "
        f"{made['torch_threads']} of them for PyTorch."
    ]
    for section in content["sections"]:
        table = markdown_table(section["header"], section["rows"])
        texts.append(f"**{section['title']}**\n\n{table}")
    return "\n\n".join(texts)


def square_table(matrix: pd.DataFrame) -> str:
    """A matrix of errors with its labels."""
    rows = [
        (source, *("-" if pd.isna(v) or source == t else f"{v:.2f}" for t, v in row.items()))
        for source, row in matrix.iterrows()
    ]
    return markdown_table(("source \\\\ target", *matrix.columns), rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
