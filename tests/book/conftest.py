"""The built book, once for all its tests."""

import os
from pathlib import Path

import pytest
import yaml

from umlip_latents.book import ROOT, build

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The book of the quick profile: from the folder that the caller names, or built here."""
    if built := os.environ.get("UMLIP_LATENTS_BOOK"):
        return Path(built).resolve() / "html"
    return build("quick", tmp_path_factory.mktemp("book")).parent


@pytest.fixture(scope="session")
def pages(html) -> list[Path]:
    """The pages of the table of contents."""
    return [html / f"{name}.html" for name in PAGES]
