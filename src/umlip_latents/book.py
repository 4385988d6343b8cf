"""Execute the notebooks with a profile's parameters, fill the pages, build the HTML."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import joblib
import papermill
import yaml
from tqdm import tqdm

from .figures import error_heat_maps, use_style
from .pages import architectures, substitutions
from .resources import OFFLINE, PACKAGE, InputError, fetch, made, registry, unknown, write_whole
from .results import REFERENCE, save_figure

ROOT = PACKAGE.parents[1]
# notebooks that read the tables of others
READS = {"11_atlas": ("03_comparison",)}
MOST_AT_ONCE = 4  # notebooks, each of which takes a gigabyte or two


def load_profile(name: str) -> dict[str, dict]:
    """Parameters of every notebook that the profile runs, by notebook."""
    profiles = {path.stem: path for path in sorted((ROOT / "book" / "profiles").glob("*.yaml"))}
    if name not in profiles:
        raise unknown(name, "profile", profiles)
    return yaml.safe_load(profiles[name].read_text(encoding="utf-8"))


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
    source = emptied(output)
    os.environ["UMLIP_LATENTS_PROFILE"] = profile
    fetch_checkpoints()
    folders = {"store": output / "features", "results": output / "results"}
    folders = {} if output == ROOT / "_build" else folders  # there they are by themselves
    run_all({name: folders | settings for name, settings in parameters.items()}, source)
    copy_pages(source)
    use_style()
    for folder in (output / "results", REFERENCE):
        shutil.copytree(folder, source / folder.name)
    matrix = architectures()
    figure = error_heat_maps({"": matrix}, n_models=matrix.shape[1])
    save_figure(figure, source / "book" / "images" / "architectures.png")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:  # without the notebooks that this profile does not run
        part["chapters"] = [c for c in part["chapters"] if [*source.glob(f"{c['file']}.*")]]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    write_settings(source, toc, substitutions(profile, output / "results"))
    start = time.monotonic()
    page = build_html(source, output, "--warningiserror") / "index.html"
    print(f"{time.monotonic() - start:6.0f} s  pages", flush=True)
    return page


def build_chapter(number: str, profile: str, settings: Mapping[str, Any], output: Path) -> Path:
    """Execute one notebook with parameters of one's own and build its page.

    Parameters
    ----------
    number
        How its name starts, such as ``03``.
    profile
        Name of a file in ``book/profiles``.
    settings
        Parameters that are to differ from the profile's. Files among them are taken from the
        present folder.
    output
        Folder for ``html``, ``results`` and ``source``; features are kept in the book's own store.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        No such notebook, profile or parameter, or it stops with an error.
    """
    notebooks = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    chosen = [path for name, path in notebooks.items() if name.startswith(number)]
    if len(chosen) != 1:
        raise unknown(number, "notebook", [path.stem for path in chosen] or notebooks)
    known = papermill.inspect_notebook(str(chosen[0]))
    for name in settings:
        if name not in known:
            raise unknown(name, f"parameter of {chosen[0].name}", known)
    folders = {"store": ROOT / "_build" / "features", "results": output / "results"}
    own = {name: seen_from_notebooks(value) for name, value in settings.items()}
    settings = load_profile(profile).get(chosen[0].stem, {}) | own
    os.environ["UMLIP_LATENTS_PROFILE"] = "own" if own else profile
    source = emptied(output)
    execute(chosen[0], source, {n: p for n, p in folders.items() if n in known} | settings)
    copy_pages(source)
    pages = [{"file": f"book/{name}"} for name in ("reading_errors", "glossary")]
    root = f"notebooks/{chosen[0].stem}"
    write_settings(source, {"format": "jb-book", "root": root, "chapters": pages}, {})
    return build_html(source, output) / f"{root}.html"


def copy_pages(source: Path) -> None:
    """The pages that are no notebooks, and what they need."""
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("profiles"))


def emptied(output: Path) -> Path:
    """The folder ``source`` of an output folder, without the results of an earlier build."""
    mark = made(output) / ".umlip-latents-book"
    for name in ("source", "results"):
        if (output / name).exists() and not (mark.exists() or (output / "html").exists()):
            raise InputError(f"{output / name}: is not of a book, and is not deleted for one.")
    mark.touch()
    for name in ("source", "results"):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / "source" / "notebooks").mkdir(parents=True)
    return output / "source"


def seen_from_notebooks(value: Any) -> Any:
    """A parameter; a file of the present folder, or its ``FILE.py:CLASS``, from the notebooks'."""
    if isinstance(value, list):
        return [seen_from_notebooks(part) for part in value]
    file, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if file and Path(file).is_file():
        return os.path.relpath(file, ROOT / "notebooks") + colon + name
    return value


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


def run_all(parameters: Mapping[str, Mapping[str, Any]], source: Path) -> None:
    """Run notebooks side by side, as many as there are cores, and print what each of them took.

    A notebook that reads the tables of others starts when these are there.

    Parameters
    ----------
    parameters
        Of every notebook, by its name.
    source
        As in `execute`.
    """
    n_cores = joblib.cpu_count()
    at_once = min(n_cores, MOST_AT_ONCE)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the notebooks, which are as many as cores
    # that one of them may use, two at least, or the last ones would leave a core without work
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(max(2, n_cores // at_once)))
    # GNU's C library is to keep what they free for what comes next, as `workers.keep_memory` has it
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 25))
    waiting, running, start = dict(parameters), {}, time.monotonic()
    bar = tqdm(total=len(waiting), desc="notebooks", unit="notebook", disable=None)
    with bar, ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
        try:
            while waiting or running:
                unfinished = {*waiting, *running.values()}
                ready = [name for name in waiting if unfinished.isdisjoint(READS.get(name, ()))]
                for name in ready:
                    notebook = ROOT / "notebooks" / f"{name}.ipynb"
                    running[pool.submit(execute, notebook, source, waiting.pop(name))] = name
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    seconds, name = done.result(), running.pop(done)
                    bar.write(f"{seconds:6.0f} s  {name}")
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"{time.monotonic() - start:6.0f} s  all notebooks", flush=True)


def execute(notebook: Path, source: Path, parameters: Mapping[str, Any]) -> float:
    """Run one notebook by papermill from its own folder, into the folder of executed ones.

    Returns
    -------
    float
        Seconds.
    """
    start = time.monotonic()
    # relative, so that a page does not tell where it was built
    told = {
        name: os.path.relpath(value, notebook.parent) if isinstance(value, Path) else value
        for name, value in parameters.items()
    }
    target = source / "notebooks" / notebook.name
    try:
        papermill.execute_notebook(
            notebook,
            target,
            parameters=told,
            cwd=notebook.parent,
            kernel_name="python3",
            progress_bar=False,
        )
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename} ({' '.join(error.evalue.split())})"
        where = f"{notebook.name}: cell [{error.exec_count}]"
        raise InputError(f"{where} stops with {cause}, see {target}.") from None
    return time.monotonic() - start


def write_settings(source: Path, toc: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """The contents, and the configuration with the values that the pages quote.

    Where the build knows its repository, as on GitHub, each page gets buttons that lead there and
    that run its notebook on Binder and Colab.
    """
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["myst_substitutions"] = dict(values)
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        branch = os.environ.get("GITHUB_REF_NAME", "main")
        config["repository"] = {"url": f"https://github.com/{repository}", "branch": branch}
        config["html"]["use_repository_button"] = True
        config["launch_buttons"] = {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }
    for name, content in (("_config.yml", config), ("_toc.yml", toc)):
        write_whole(source / name, yaml.safe_dump(content, sort_keys=False))


def build_html(source: Path, output: Path, *options: str) -> Path:
    """Call jupyter-book and move the finished pages into place; returns their folder."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(source), "--all"]
    command += ["--path-output", str(source), "--keep-going", *options]
    log = subprocess.run(command, capture_output=True, text=True)
    write_whole(output / "jupyter-book.log", log.stdout + log.stderr)
    if log.returncode:
        print(*(log.stdout + log.stderr).splitlines()[-30:], sep="\n", file=sys.stderr)
        raise InputError(f"{output / 'jupyter-book.log'}: says why the pages cannot be built.")
    html = output / "html"
    shutil.rmtree(html, ignore_errors=True)
    (source / "_build" / "html").rename(html)
    return html


def serve(page: Path, folder: Path) -> None:
    """Show a folder of pages on this machine alone, until interrupted."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/{page.relative_to(folder).as_posix()}"
        print(f"{address} (until Ctrl-C)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
