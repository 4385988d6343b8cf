"""Execute the notebooks with a profile's parameters, and build the pages around them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import as_completed
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import joblib
import papermill
import yaml
from joblib.externals.loky import ProcessPoolExecutor

from . import resources
from .resources import OFFLINE, REFERENCE, SILENT, InputError, UnreachableError, unknown_name
from .verify import registered_downloads

ROOT = resources.PACKAGE.parents[1]
LAST = ("11_atlas",)  # notebooks that read the tables of others
MOST_AT_ONCE = 4  # notebooks, each of which takes a gigabyte or two


def load_profile(name: str | Path) -> dict[str, dict]:
    """Parameters of every notebook to run, by notebook: those of a named profile or a YAML file."""
    profiles = {path.stem: path for path in sorted((ROOT / "book" / "profiles").glob("*.yaml"))}
    file = name if isinstance(name, Path) else profiles.get(name)
    if file is None:
        raise unknown_name(name, "profile", profiles)
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def build(
    profile: str | Path = "default",
    output: Path | None = None,
    only: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Execute the notebooks of a profile and build the book, or one notebook and its page.

    Parameters
    ----------
    profile
        Name of a file in ``book/profiles``, or another such file.
    output
        Folder for ``html``, ``results`` (tables), ``features`` (store) and ``source`` (executed
        notebooks and pages); by default ``_build``, or ``_build/own`` for one notebook.
    only
        How the name of the notebook starts, such as ``03``. It keeps features in the book's store.
    settings
        Its parameters that are to differ from the profile's. Files are those of this folder.

    Returns
    -------
    Path
        The front page, or that of the notebook.

    Raises
    ------
    InputError
        Unknown profile, notebook or parameter, a notebook that stops with an error, or a page that
        cannot be built.
    """
    parameters, folder = load_profile(profile), ROOT / "_build"
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    if only is None:
        output = folder = (output or Path("_build")).resolve()
    else:
        output = (output or Path("_build", "own")).resolve()
        name, own = own_parameters(only, settings or {})
        parameters = {name: parameters.get(name, {}) | own}
        pages = [{"file": f"book/{page}"} for page in ("reading_errors", "glossary")]
        toc = {"format": "jb-book", "root": f"notebooks/{name}", "parts": [{"chapters": pages}]}
    source = empty_source(output)
    if output != ROOT / "_build":  # where the notebooks have them by themselves
        folders = {"store": folder / "features", "results": output / "results"}
        parameters = {name: folders | given for name, given in parameters.items()}
    profile = "own" if settings else Path(profile).stem
    execute_all(parameters, source, {"UMLIP_LATENTS_PROFILE": profile, **fetch_checkpoints()})
    for folder in (output / "results", REFERENCE):
        shutil.copytree(folder, source / folder.name)
    strict = write_configuration(source, toc, profile) and only is None
    build_html(source, output, *["--warningiserror"] * strict)
    return output / "html" / ("index.html" if only is None else f"{toc['root']}.html")


def own_parameters(number: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a notebook that starts so, and parameters that it knows, with files found."""
    notebooks = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    found = [name for name in notebooks if name.startswith(number)]
    if len(found) != 1:
        raise unknown_name(number, "notebook", found or notebooks)
    known = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{found[0]}.ipynb"))
    for key in settings:
        if key not in known:
            raise unknown_name(key, f"parameter of {found[0]}", known)
    return found[0], {key: from_notebooks(value) for key, value in settings.items()}


def from_notebooks(value: Any) -> Any:
    """A parameter; a file of this folder, or its ``FILE.py:CLASS``, as the notebooks see it."""
    if isinstance(value, list):
        return [from_notebooks(part) for part in value]
    file, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if file and Path(file).is_file():
        return os.path.relpath(file, ROOT / "notebooks") + colon + name
    return value


def empty_source(output: Path) -> Path:
    """The folder ``source`` of an output folder, with the pages alone; results are deleted."""
    mark = resources.ensure_dir(output) / ".umlip-latents-book"
    for folder in (output / "source", output / "results"):
        if folder.exists() and not mark.exists():
            raise InputError(f"{folder}: is not of a book, and is not deleted for one.")
        shutil.rmtree(folder, ignore_errors=True)
    mark.touch()
    shutil.copytree(ROOT / "book", output / "source" / "book")
    (output / "source" / "notebooks").mkdir()
    return output / "source"


def fetch_checkpoints() -> dict[str, str]:
    """Try to download each public checkpoint that is not at hand, and each silent host once.

    Notebooks leave out by name what is not there. Returns the variable that keeps them from asking
    the silent hosts again.
    """
    silent: set[str] = set()
    for file, url, digest in registered_downloads("models"):
        host = urlsplit(url).netloc
        if host in silent or resources.find_copy(file) or os.environ.get(OFFLINE):
            continue
        try:
            resources.fetch(file, url, digest)
        except InputError as error:
            print(error, file=sys.stderr)
            silent |= {host} if isinstance(error, UnreachableError) else set()
    return {SILENT: " ".join(sorted(silent))}


def execute_all(
    parameters: Mapping[str, Mapping[str, Any]], source: Path, variables: Mapping[str, str]
) -> None:
    """Run notebooks in processes of their own, side by side, and print the seconds of each.

    Parameters
    ----------
    parameters
        Of every notebook, by its name.
    source
        The folder whose ``notebooks`` gets the executed ones.
    variables
        Environment variables for the notebooks alone.
    """
    n_cores = joblib.cpu_count()
    at_once = min(n_cores, MOST_AT_ONCE, len(parameters))
    if at_once > 1:  # a thread for each, and the cores shared out; the last one finds one free
        cores = str(max(2, n_cores // at_once))
        variables = {**variables, "OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": cores}
    pool = ProcessPoolExecutor(at_once, env=dict(variables))
    try:
        for last in (False, True):
            names = [name for name in parameters if (name in LAST) == last]
            paths = [ROOT / "notebooks" / f"{name}.ipynb" for name in names]
            jobs = [pool.submit(execute, path, source, parameters[path.stem]) for path in paths]
            for job in as_completed(jobs):
                print(job.result(), flush=True)
    finally:
        pool.shutdown(kill_workers=True)


def execute(notebook: Path, source: Path, parameters: Mapping[str, Any]) -> str:
    """Run one notebook by papermill from its own folder; returns what it took."""
    start, target = time.monotonic(), source / "notebooks" / notebook.name
    known = papermill.inspect_notebook(str(notebook))
    given = {  # relative, so that a page does not show where it was built
        key: os.path.relpath(value, notebook.parent) if isinstance(value, Path) else value
        for key, value in parameters.items()
        if key in known
    }
    options = {"cwd": notebook.parent, "kernel_name": "python3", "progress_bar": False}
    try:
        papermill.execute_notebook(notebook, target, given, **options)
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename} ({' '.join(error.evalue.split())})"
        where = f"{notebook.name}: cell [{error.exec_count}]"
        raise InputError(f"{where} stops with {cause}, see {target}.") from None
    return f"{time.monotonic() - start:6.0f} s  {notebook.stem}"


def write_configuration(source: Path, toc: dict[str, Any], profile: str) -> bool:
    """Write contents and configuration; returns whether every notebook of the contents is there.

    Where the build knows its repository, as on GitHub, each page gets buttons that lead there and
    that run its notebook on Binder and Colab.
    """
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    values = {"latents_profile": profile, "latents_results": str(source.parent / "results")}
    config["sphinx"]["config"] |= values
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        url, branch = f"https://github.com/{repository}", os.environ.get("GITHUB_REF_NAME", "main")
        config["repository"] = {"url": url, "branch": branch}
        config["html"]["use_repository_button"] = True
        hosts = (
            ("binderhub", "https://mybinder.org"),
            ("colab", "https://colab.research.google.com"),
        )
        config["launch_buttons"] = {f"{name}_url": url for name, url in hosts}
    n_chapters = sum(len(part["chapters"]) for part in toc["parts"])
    for part in toc["parts"]:
        part["chapters"] = [c for c in part["chapters"] if [*source.glob(f"{c['file']}.*")]]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    for name, content in (("_config.yml", config), ("_toc.yml", toc)):
        resources.write_file(source / name, yaml.safe_dump(content, sort_keys=False))
    return n_chapters == sum(len(part["chapters"]) for part in toc["parts"])


def build_html(source: Path, output: Path, *options: str) -> None:
    """Call jupyter-book and move the finished pages into place."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(source), "--all", "--keep-going"]
    command += ["--path-output", str(source), *options]
    log = subprocess.run(command, capture_output=True, text=True)
    text = log.stdout + log.stderr
    resources.write_file(output / "jupyter-book.log", text)
    if log.returncode:
        print(*text.splitlines()[-30:], sep="\n", file=sys.stderr)
        raise InputError(f"{output / 'jupyter-book.log'}: says why the pages cannot be built.")
    shutil.rmtree(output / "html", ignore_errors=True)
    (source / "_build" / "html").rename(output / "html")


def serve(page: Path) -> None:
    """Show a page and all others of its book on this machine alone, until interrupted."""
    folder = next(parent for parent in page.parents if parent.name == "html")
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/{page.relative_to(folder).as_posix()}"
        print(f"{address} (until Ctrl-C)", flush=True)
        server.serve_forever()
