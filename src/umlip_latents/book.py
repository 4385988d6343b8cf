"""Execute the notebooks with a profile's parameters, and build the pages around them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from glob import glob
from pathlib import Path
from typing import Any

import joblib
import nbformat
import papermill
import yaml
from joblib.externals.loky import ProcessPoolExecutor

from .models.catalogue import PICKLED, catalogue_entry, load_model, split_name
from .resources import (
    REFERENCE,
    ROOT,
    InputError,
    check_at_least,
    registry,
    unknown_name,
    write_file,
)

MOST_AT_ONCE = 4  # notebooks, each of which takes a gigabyte or two


def load_profile(name: str | Path) -> dict[str, dict]:
    """Parameters of every notebook to run, by notebook: those of a named profile or a YAML file."""
    if not (ROOT / "_toc.yml").is_file():
        raise InputError("The notebooks are no part of the package: build in a clone of its book.")
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
    *,
    trust: bool = False,
) -> Path:
    """Execute the notebooks of a profile and build the book, or one notebook and its page.

    Parameters
    ----------
    profile
        Name of a file in ``book/profiles``, or another such file. A named one has every chapter,
        and then a page that warns of anything is an error.
    output
        Folder for ``html``, ``results`` (tables), ``features`` (store) and ``source`` (executed
        notebooks and pages); by default ``_build``, or ``_build/own`` for one notebook.
    only
        The number of a notebook, such as ``03``. It keeps features in the book's store.
    settings
        Its parameters that are to differ from the profile's. Files are those of this folder.
    trust
        Allow its models that are pickled, as in `load_model`, which records that for notebooks.

    Returns
    -------
    Path
        The front page, or that of the notebook.

    Raises
    ------
    InputError
        Unknown profile, notebook or parameter, a value that is not of the parameter's kind, a
        notebook that stops with an error, or a page that cannot be built.
    """
    parameters, folder = load_profile(profile), ROOT / "_build"
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    if only is None:
        output = folder = (output or Path("_build")).resolve()
    else:
        output = (output or Path("_build", "own")).resolve()
        name, own = own_parameters(only, settings or {})
        if trust:
            trust_models(settings or {})
        parameters = {name: parameters.get(name, {}) | own}
        pages = {"chapters": [{"file": "book/glossary"}]}
        toc = {"format": "jb-book", "root": f"notebooks/{name}", "parts": [pages]}
    source = empty_source(output)
    folders = {"store": folder / "features", "results": output / "results"}
    relative = {key: os.path.relpath(path, ROOT / "notebooks") for key, path in folders.items()}
    parameters = {name: relative | given for name, given in parameters.items()}
    execute_all(parameters, source)
    if settings:
        remove_findings(source / "notebooks" / f"{name}.ipynb")
    for folder in (output / "results", REFERENCE):
        shutil.copytree(folder, source / folder.name)
    write_configuration(source, toc)
    strict = only is None and isinstance(profile, str)
    build_html(source, output, *["--warningiserror"] * strict)
    return output / "html" / ("index.html" if only is None else f"{toc['root']}.html")


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Names and values of ``NAME=VALUE``, the values in YAML.

    Examples
    --------
    >>> parse_settings(["every=1", "models=[chgnet-0.3.0, soap]"])
    {'every': 1, 'models': ['chgnet-0.3.0', 'soap']}
    """
    try:
        return {name: yaml.safe_load(value) for name, value in (t.split("=", 1) for t in texts)}
    except (ValueError, yaml.YAMLError):
        raise InputError(f"-p {' -p '.join(texts)}: NAME=VALUE, with the value in YAML.") from None


def own_parameters(number: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the notebook of a number, and settings as its parameters want them."""
    notebooks = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    found = [name for name in notebooks if name.startswith(number.zfill(2))]
    if len(found) != 1:
        raise unknown_name(number, "notebook", found or notebooks)
    known = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{found[0]}.ipynb"))
    for key in settings:
        if key not in known:
            raise unknown_name(key, f"parameter of {found[0]}", known)
    defaults = {key: literal_eval(known[key]["default"]) for key in settings}
    return found[0], {key: conform(key, settings[key], defaults[key]) for key in settings}


def conform(name: str, value: Any, default: Any) -> Any:
    """A value as a parameter with this default takes it; a list may be given as its one entry.

    Numbers called ``every...`` and ``n_...`` are counts, from 1 on unless the default is 0.

    Examples
    --------
    >>> conform("models", "chgnet-0.3.0", ["7net-0", "soap"])
    ['chgnet-0.3.0']
    >>> conform("every", "many", 3)
    Traceback (most recent call last):
    ...
    umlip_latents.resources.InputError: every=many: must be of the kind of 3.
    """
    if isinstance(default, list):
        values = value if isinstance(value, list) else [value]
        return [conform(name, part, default[0] if default else None) for part in values]
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if default is not None and type(value) not in kinds:
        raise InputError(f"{name}={value}: must be of the kind of {default!r}.")
    if name.startswith(("every", "n_")):
        check_at_least(int(default != 0), **{name: value})
    return find_file(value) if isinstance(value, str) else value


def find_file(text: str) -> str:
    """Files of this folder as notebooks see them, with the class or frames of them; other text.

    Examples
    --------
    >>> find_file("README.md:Class"), find_file("*.md@:9"), find_file("embedded@:9")
    ('../README.md:Class', '../*.md@:9', 'embedded@:9')
    """
    found = re.fullmatch(r"(.*?)(@[-:\d]+|:[\w-]+)?", text, re.DOTALL)
    file, rest = (text, "") if os.path.exists(text) else (found[1], found[2] or "")
    known = registry("datasets") | registry("models")
    if file not in known and (os.path.exists(file) or glob(file, recursive=True)):
        return os.path.relpath(file, ROOT / "notebooks") + rest
    if Path(file).suffix[1:2].isalpha() and not (ROOT / "notebooks" / file).is_file():
        raise InputError(f"{file}: no such file.")
    return text


def trust_models(settings: Mapping[str, Any]) -> None:
    """Load the models among settings that may need trust once, which is recorded for notebooks."""
    lists = [value if isinstance(value, list) else [value] for value in settings.values()]
    for text in (str(text) for values in lists for text in values):
        if catalogue_entry(text) or split_name(text)[0].endswith(PICKLED):
            load_model(text, trust=True)


def empty_source(output: Path) -> Path:
    """The folder ``source`` of an output folder, with the pages alone; what was built goes."""
    output.mkdir(parents=True, exist_ok=True)
    mark = output / ".umlip-latents-book"
    for folder in (output / "source", output / "results", output / "html"):
        if folder.exists() and not mark.exists():
            raise InputError(f"{folder}: is not of a book, and is not deleted for one.")
        shutil.rmtree(folder, ignore_errors=True)
    mark.touch()
    shutil.copytree(ROOT / "book", output / "source" / "book")
    (output / "source" / "notebooks").mkdir()
    for file in (ROOT / "notebooks").glob("*.py"):  # which pages show
        shutil.copy(file, output / "source" / "notebooks")
    return output / "source"


def execute_all(parameters: Mapping[str, Mapping[str, Any]], source: Path) -> None:
    """Run notebooks in processes of their own, side by side, and print the seconds of each.

    Parameters
    ----------
    parameters
        Of every notebook, by its name.
    source
        The folder whose ``notebooks`` gets the executed ones.
    """
    n_cores = joblib.cpu_count()
    at_once = min(n_cores, MOST_AT_ONCE, len(parameters))
    variables = {}
    if at_once > 1:  # a thread for each, and the cores shared out; the last one finds one free
        cores = str(max(2, n_cores // at_once))
        variables = {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": cores}
    pool = ProcessPoolExecutor(at_once, env=variables)
    try:
        paths = {ROOT / "notebooks" / f"{name}.ipynb": own for name, own in parameters.items()}
        jobs = [pool.submit(execute, path, source, own) for path, own in paths.items()]
        for job in as_completed(jobs):
            print(job.result(), flush=True)
    finally:
        pool.shutdown(kill_workers=True)


def execute(notebook: Path, source: Path, parameters: Mapping[str, Any]) -> str:
    """Run one notebook by papermill from its own folder; returns what it took."""
    start, target = time.monotonic(), source / "notebooks" / notebook.name
    known = papermill.inspect_notebook(str(notebook))
    given = {key: value for key, value in parameters.items() if key in known}
    options = {"cwd": notebook.parent, "kernel_name": "python3", "progress_bar": False}
    try:
        papermill.execute_notebook(notebook, target, given, **options)
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename} ({' '.join(error.evalue.split())})"
        where = f"{notebook.name}: cell [{error.exec_count}]"
        raise InputError(f"{where} stops with {cause}, see {target}.") from None
    if {*given} <= {"store", "results"}:  # folders, of no interest to a reader
        remove_cells(target, "injected-parameters")
    return f"{time.monotonic() - start:6.0f} s  {notebook.stem}"


def remove_cells(path: Path, tag: str) -> None:
    """Take the cells that have a tag out of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if tag not in c.metadata.get("tags", [])]
    nbformat.write(notebook, path)


def remove_findings(path: Path) -> None:
    """Take what the book found out of a notebook that ran on other data: findings and captions."""
    remove_cells(path, "finding")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "mystnb" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": "A figure of this chapter on other data"}}
    nbformat.write(notebook, path)


def write_configuration(source: Path, toc: dict[str, Any]) -> None:
    """Write the configuration, and the contents without the chapters that are not there.

    Where the build knows its repository, as on GitHub, each page gets buttons that lead there and
    that run its notebook on Binder and Colab.
    """
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["latents_results"] = str(source.parent / "results")
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        url, branch = f"https://github.com/{repository}", os.environ.get("GITHUB_REF_NAME", "main")
        config["repository"] = {"url": url, "branch": branch}
    else:  # nowhere for a button to lead
        del config["launch_buttons"], config["html"]["use_repository_button"]
    for part in toc["parts"]:
        part["chapters"] = [c for c in part["chapters"] if [*source.glob(f"{c['file']}.*")]]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    for name, content in (("_config.yml", config), ("_toc.yml", toc)):
        write_file(source / name, yaml.safe_dump(content, sort_keys=False))


def build_html(source: Path, output: Path, *options: str) -> None:
    """Call jupyter-book and move the finished pages into place."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(source), "--all", "--keep-going"]
    command += ["--path-output", str(source), *options]
    log = subprocess.run(command, capture_output=True, text=True)
    text = log.stdout + log.stderr
    write_file(output / "jupyter-book.log", text)
    if log.returncode:
        print(*text.splitlines()[-30:], sep="\n", file=sys.stderr)
        raise InputError(f"{output / 'jupyter-book.log'}: says why the pages cannot be built.")
    (source / "_build" / "html").rename(output / "html")
