"""Execute the notebooks with a profile's parameters, fill the pages, build the HTML."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import papermill
import yaml

from .pages import substitutions
from .resources import OFFLINE, PACKAGE, InputError, fetch, registry
from .results import write_text

ROOT = PACKAGE.parents[1]


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
    fetch_checkpoints()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if notebook.stem in parameters:
            execute(notebook, source / "notebooks" / notebook.name, parameters, output)
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("profiles"))
    write_settings(source, substitutions(profile, output / "results"))
    return build_html(source, output)


def fetch_checkpoints() -> None:
    """One short attempt at the public checkpoints that the catalogue has the SHA-256 of.

    After a download that fails no notebook tries another one; it leaves the model out by name.
    """
    for entry in registry("models").values():
        for part in (entry, entry.get("arguments", {})):
            if {"url", "sha256"} <= {*part}:
                try:
                    fetch(part["file"], part["url"], part["sha256"])
                except InputError as error:
                    print(error, file=sys.stderr)
                    os.environ[OFFLINE] = "1"
                    return


def execute(notebook: Path, target: Path, parameters: dict[str, dict], output: Path) -> None:
    """Run one notebook by papermill from its own folder."""
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
        cause = f"{error.ename} ({' '.join(error.evalue.split())})"
        where = f"{notebook.name}: cell [{error.exec_count}]"
        raise InputError(f"{where} stops with {cause}, see {target}.") from None


def write_settings(source: Path, values: Mapping[str, str]) -> None:
    """The configuration with the values that the pages quote, and the contents that are there."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["myst_substitutions"] = dict(values)
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:  # without the notebooks that this profile does not run
        part["chapters"] = [c for c in part["chapters"] if [*source.glob(f"{c['file']}.*")]]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    for name, content in (("_config.yml", config), ("_toc.yml", toc)):
        write_text(source / name, yaml.safe_dump(content, sort_keys=False))


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
