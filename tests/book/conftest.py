"""The built book, once for all its tests."""

import os
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from umlip_latents.book import ROOT, build

# without a built book: all pages, and three chapters on a few features that ship
FEW = {"models": ["chgnet-0.3.0", "chgnet-r2scan", "7net-0"], "baselines": ["element"]}
NOTEBOOKS = {"02_errors": {}, "04_architectures": FEW, "07_atoms": FEW}


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The pages that `make book` has built, or those of a small book that is built here."""
    if (ROOT / "_build" / "html" / "index.html").is_file():
        return ROOT / "_build" / "html"
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one book for all processes
        folder = folder.parent
    with FileLock(folder / "book.lock"), pytest.MonkeyPatch.context() as patch:
        if not (folder / "book" / "html" / "index.html").is_file():
            patch.setenv("UMLIP_LATENTS_OFFLINE", "1")
            (folder / "small.yaml").write_text(yaml.safe_dump(NOTEBOOKS))
            build(folder / "small.yaml", folder / "book")
    return folder / "book" / "html"


@pytest.fixture(scope="session")
def pages(html) -> list[Path]:
    """The pages of its table of contents."""
    toc = yaml.safe_load((html.parent / "source" / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    there = [name for name in chapters if [*(html.parent / "source").glob(f"{name}.*")]]
    return [html / f"{name}.html" for name in (toc["root"], *there)]
