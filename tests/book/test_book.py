"""The built book: the notebooks run through papermill, the pages are whole and need no web."""

import json
import re
import runpy
from functools import cache
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import pandas as pd
import pytest

from umlip_latents.book import ROOT
from umlip_latents.resources import REFERENCE


class Links(HTMLParser):
    """What a page refers to and which anchors it has."""

    def __init__(self):
        super().__init__()
        self.links, self.resources, self.anchors = [], [], set()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "link" and values.get("href"):
            self.resources.append(values["href"])
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.resources.append(values["src"])


@cache
def parsed(page: Path) -> Links:
    """The links of a page."""
    found = Links()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def test_every_page_is_there(html, pages):
    assert (html / "index.html").is_file()
    assert all(page.is_file() for page in pages)


@pytest.fixture(scope="module")
def notebooks(html) -> dict[str, list]:
    """The outputs of the executed notebooks, by name."""
    return {
        path.stem: [
            output
            for cell in nbformat.read(path, as_version=4).cells
            for output in cell.get("outputs", [])
        ]
        for path in sorted((html.parent / "source" / "notebooks").glob("*.ipynb"))
    }


def test_no_cell_ended_in_an_error_and_every_notebook_shows_figures(html, notebooks):
    for name, outputs in notebooks.items():
        assert not [o for o in outputs if o.output_type == "error"], name
        # a page would show what such an output is called
        assert all(o["data"].get("text/markdown", "words") for o in outputs if "data" in o), name
        page = (html / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert "<img" in page or "<canvas" in page or "<svg" in page, name
        assert (html.parent / "results" / f"{name}.json").is_file(), name


def test_every_inner_link_leads_somewhere(pages, notebooks):
    for page in pages:
        for link in parsed(page).links:
            url = urlparse(link)
            if url.scheme or url.netloc:
                assert url.scheme in ("https", "http", "mailto"), link
                continue
            missing = re.search(r"\b(\d\d_\w+)\.(ipynb|html)", link)
            if missing and missing[1] not in notebooks:
                continue  # which a small book lacks
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            assert target.is_file(), f"{page.name}: {link}"
            if url.fragment and target.suffix == ".html":
                assert unquote(url.fragment) in parsed(target).anchors, f"{page.name}: {link}"


def test_no_page_needs_the_web(pages):
    for page in pages:
        for resource in parsed(page).resources:
            url = urlparse(resource)
            assert not url.scheme or url.scheme == "data", f"{page.name}: {resource}"
            assert not url.netloc, f"{page.name}: {resource}"
            if not url.scheme:
                assert (page.parent / unquote(url.path)).is_file(), f"{page.name}: {resource}"


def test_formulas_are_typeset_and_values_filled_in(html, pages):
    reading = (html / "book" / "reading_errors.html").read_text(encoding="utf-8")
    assert reading.count("<math ") > 5
    assert "\\arg" not in reading
    for page in pages:
        text = re.sub(
            r"<(script|style|pre).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S
        )
        assert "{{" not in text, page.name
        assert "nan" not in re.findall(r"<td[^>]*><p>(\w+)</p>", text), page.name


def test_the_reference_shows_what_is_public_and_nothing_else(html):
    pages = [p.read_text(encoding="utf-8") for p in (html / "book" / "api").glob("*.html")]
    shown = set(re.findall(r'<dt class="[^"]*sig[^"]*" id="([\w.]+)"', "".join(pages)))
    public = runpy.run_path(str(ROOT / "book" / "_ext" / "reference.py"))["public"]
    names = set(public(ROOT / "notebooks"))
    assert names <= shown
    protocol = "umlip_latents.models.base."
    extra = {n for n in shown - names if n.rpartition(".")[0] not in shown | names}
    assert all(name.startswith(protocol) for name in extra), extra


def test_the_front_page_has_a_figure_and_headlines(html):
    text = (html / "book" / "index.html").read_text(encoding="utf-8")
    assert text.count(">more<") >= 3
    assert re.search(r"<figcaption>.*In \d+ of \d+ cases a network rebuilds", text, re.S)


def test_the_evidence_hands_out_its_tables(html):
    page = html / "book" / "results.html"
    text = page.read_text(encoding="utf-8")
    files = {*re.findall(r'href="(\.\./_downloads/[^"]*/([^/"]*\.csv))"', text)}
    assert len(files) > 20
    for link, name in files:
        assert (page.parent / link).read_text(encoding="utf-8").count("\n") > 1, name


def test_the_explorer_has_every_error_of_the_comparison(html, notebooks):
    atlas = "".join(o.get("data", {}).get("text/html", "") for o in notebooks["11_atlas"])
    spec = json.loads(re.search(r'vegaEmbed\?\.\("#explorer", (.+), \{renderer', atlas)[1])
    shown = pd.read_csv(StringIO(next(iter(spec["datasets"].values()))), na_values="-")
    name = "03_comparison-errors.csv"
    tables = [pd.read_csv(folder / name) for folder in (html.parent / "results", REFERENCE)]
    errors = pd.concat(tables).sort_values("layer", kind="stable")  # the main one first
    assert shown["error"].to_numpy() == pytest.approx(errors["error"].to_numpy(), rel=1e-3)


def test_only_pages_that_draw_load_what_draws(html):
    scripts = {"chemiscope.min.js", "chemiscope-sphinx.js", "vega-embed.js"}
    for page in (html / "notebooks").glob("*.html"):
        loaded = {urlparse(r).path.rpartition("/")[2] for r in parsed(page).resources} & scripts
        assert loaded == (scripts if page.stem == "11_atlas" else set()), page.name
