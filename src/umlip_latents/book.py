"""Execute the notebooks with a profile's parameters, and build the pages around them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import nbformat
import papermill
import yaml

from .models.catalogue import catalogue_entry, load_model
from .resources import REFERENCE, ROOT, InputError, unknown_name, write_file


def load_profile(profile: str | Path) -> dict[str, dict[str, Any]]:
    """Parameters of every notebook to run, by notebook: those of a named profile or a YAML file."""
    file = Path(ROOT, "book", "profiles", profile).with_suffix(".yaml")
    if not file.is_file():
        raise InputError(f"{file}: no such file; build in a clone, the package has no notebooks.")
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
        Folder for ``html``, ``results`` (tables) and ``source`` (executed notebooks and pages); by
        default ``_build``, or ``_build/own`` for one notebook. Features are kept in ``_build`` of
        the clone in any case.
    only
        The number of a notebook, such as ``03``.
    settings
        Its parameters that are to differ from the profile's. Files are those of this folder.
    trust
        As in `own_parameters`.

    Returns
    -------
    Path
        The front page, or that of the notebook.

    Raises
    ------
    InputError
        Unknown profile, notebook or parameter, a model that is not there, a notebook that stops
        with an error, or a page that cannot be built.
    """
    parameters = load_profile(profile)
    output = Path(output or ("_build/own" if only else "_build")).resolve()
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    if only:
        name, own = own_parameters(only, settings or {}, trust)
        parameters = {name: parameters.get(name, {}) | own}
        pages = [{"file": "book/glossary"}, {"file": "book/references"}]
        toc = {"format": "jb-book", "root": f"notebooks/{name}", "chapters": pages}
    source = empty_source(output)
    folders = {"store": ROOT / "_build" / "features", "results": output / "results"}
    given = {key: os.path.relpath(folder) for key, folder in folders.items()}
    execute_all({name: given | own for name, own in parameters.items()}, source / "notebooks")
    if settings:
        remove_cells(source / "notebooks" / f"{name}.ipynb", "finding")
    for folder in (output / "results", REFERENCE):
        shutil.copytree(folder, source / folder.name)
    write_configuration(source, toc)
    build_html(source, output, strict=not only and isinstance(profile, str))
    return output / "html" / f"{toc['root']}.html"


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Names and values of ``NAME=VALUE``, the values in YAML.

    Examples
    --------
    >>> parse_settings(["n_splits=1", "models=[chgnet-0.3.0, soap]"])
    {'n_splits': 1, 'models': ['chgnet-0.3.0', 'soap']}
    """
    try:
        return {name: yaml.safe_load(value) for name, value in (t.split("=", 1) for t in texts)}
    except (ValueError, yaml.YAMLError):
        raise InputError(f"-p {' -p '.join(texts)}: NAME=VALUE, with the value in YAML.") from None


def own_parameters(number: str, settings: Mapping, trust: bool = False) -> tuple[str, dict]:
    """The name of the notebook of a number, and settings as its parameters want them.

    A list may be given as its one entry. Models of the user's own are loaded once, so that what is
    wrong with one is said before the notebook starts; with `trust` the others are, too, and
    `load_model` records for the notebook that they may be loaded.

    Examples
    --------
    >>> own_parameters("4", {"models": "chgnet-0.3.0"})
    ('04_architectures', {'models': ['chgnet-0.3.0']})
    """
    notebook = next((ROOT / "notebooks").glob(f"{number.zfill(2)}_*.ipynb"), None)
    if not notebook:
        raise InputError(f"{number}: no such notebook; its name begins with the number, as in 03.")
    known, own = papermill.inspect_notebook(str(notebook)), {}
    for key, value in settings.items():
        if key not in known:
            raise unknown_name(key, f"parameter of {notebook.stem}", known)
        alone = known[key]["default"].startswith("[") and not isinstance(value, list)
        own[key] = [value] if alone else value
    for model in [*own.get("models", []), *own.get("baselines", [])]:
        if trust or not catalogue_entry(str(model)):
            load_model(model, trust=trust)
    return notebook.stem, own


def empty_source(output: Path) -> Path:
    """The folder ``source`` of an output folder, with the pages alone; what was built goes."""
    output.mkdir(parents=True, exist_ok=True)
    mark, source = output / ".umlip-latents-book", output / "source"
    for folder in (source, output / "results", output / "html"):
        if folder.exists() and not mark.exists():
            raise InputError(f"{folder}: is not of a book, and is not deleted for one.")
        shutil.rmtree(folder, ignore_errors=True)
    mark.touch()
    shutil.copytree(ROOT / "book", source / "book")
    no_notebooks = shutil.ignore_patterns("*.ipynb")  # but a module, which pages show
    shutil.copytree(ROOT / "notebooks", source / "notebooks", ignore=no_notebooks)
    return source


def execute_all(parameters: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Run notebooks in processes of their own, side by side, and print the seconds of each.

    Parameters
    ----------
    parameters
        Of every notebook, by its name.
    folder
        Where the executed ones go.
    """
    at_once = min(joblib.cpu_count(), len(parameters), 4)  # each takes a gigabyte or two
    # the last one finds a core free
    share = {"LOKY_MAX_CPU_COUNT": str(max(2, joblib.cpu_count() // at_once))}
    share |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}  # more would only wait
    paths = {name: ROOT / "notebooks" / f"{name}.ipynb" for name in parameters}
    jobs = (joblib.delayed(execute)(paths[n], folder, own) for n, own in parameters.items())
    with mock.patch.dict(os.environ, share):  # which kernels inherit
        for line in joblib.Parallel(at_once, return_as="generator_unordered")(jobs):
            print(line, flush=True)


def execute(notebook: Path, folder: Path, parameters: Mapping[str, Any]) -> str:
    """Run one notebook by papermill, in the present folder; returns what it took."""
    start, target = time.monotonic(), folder / notebook.name
    quiet = {"progress_bar": False, "extra_arguments": ["--log-level=ERROR"]}  # of the kernel
    try:
        papermill.execute_notebook(notebook, target, parameters, **quiet)
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename} ({' '.join(error.evalue.split())})"
        raise InputError(f"{target}: cell [{error.exec_count}] stops with {cause}.") from None
    if {*parameters} <= {"store", "results"}:  # folders, of no interest to a reader
        remove_cells(target, "injected-parameters")
    return f"{time.monotonic() - start:6.0f} s  {notebook.stem}"


def remove_cells(path: Path, tag: str) -> None:
    """Take the cells that have a tag out of a notebook, and with findings the figures' captions."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if tag not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        if tag == "finding" and "mystnb" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": "A figure of this chapter on other data"}}
    nbformat.write(notebook, path)


def write_configuration(source: Path, toc: Mapping[str, Any]) -> None:
    """Write the configuration and the contents.

    Where the build knows its repository, as on GitHub, each page gets buttons that lead there and
    that run its notebook on Binder and Colab.
    """
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        config["repository"] = {"url": f"https://github.com/{repository}", "branch": "main"}
    else:  # nowhere for a button to lead
        del config["launch_buttons"], config["html"]["use_repository_button"]
    for name, content in (("_config.yml", config), ("_toc.yml", toc)):
        write_file(source / name, yaml.safe_dump(content, sort_keys=False))


def build_html(source: Path, output: Path, *, strict: bool) -> None:
    """Call jupyter-book and move the finished pages into place."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(source)]
    command += ["--warningiserror", "--keep-going", "-q"] if strict else ["-qq"]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise InputError(f"{source}: jupyter-book cannot build these pages.")
    (source / "_build" / "html").rename(output / "html")
