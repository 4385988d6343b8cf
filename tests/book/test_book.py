"""The built book: the notebooks run through papermill, the pages are whole and need no web."""

import re
import runpy
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import pandas as pd
import pytest

from umlip_latents.book import ROOT, remove_cells
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
    reading = (html / "notebooks" / "02_errors.html").read_text(encoding="utf-8")
    assert reading.count("<math ") > 2
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


def test_the_evidence_hands_out_its_tables(html):
    page = html / "book" / "results.html"
    text = page.read_text(encoding="utf-8")
    files = {*re.findall(r'href="(\.\./_downloads/[^"]*/([^/"]*\.csv))"', text)}
    assert len(files) > 20
    for link, name in files:
        assert (page.parent / link).read_text(encoding="utf-8").count("\n") > 1, name


def test_a_run_on_the_books_own_data_gives_the_tables_that_the_text_is_held_against(html):
    """To a hundredth, or the last bit of another processor would make the text wrong."""
    results = html.parent / "results"
    shipped = {path.name: pd.read_csv(path) for path in REFERENCE.parent.glob("[0-9]*.csv")}
    built = {path.name: pd.read_csv(path) for path in results.glob("*.csv")}
    if len(built) < len(shipped) - 1:
        pytest.skip("this small book has no chapter at full scale; after `make book` it has all")
    for name, table in built.items():
        numbers = table.select_dtypes("number")
        expected = shipped[name].select_dtypes("number")
        assert list(table.columns) == list(shipped[name].columns), name
        assert len(table) == len(shipped[name]), name
        assert numbers.to_numpy() == pytest.approx(
            expected.to_numpy(), abs=0.02, rel=0.05, nan_ok=True
        ), name


def test_a_page_on_other_data_has_none_of_the_books_findings(tmp_path):
    cell = nbformat.v4.new_code_cell("1", metadata={"mystnb": {"figure": {"caption": "found"}}})
    told = nbformat.v4.new_markdown_cell("We found it.", metadata={"tags": ["finding"]})
    asked = nbformat.v4.new_markdown_cell("The question.")
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[asked, cell, told]), path)
    remove_cells(path, "finding")
    text = path.read_text(encoding="utf-8")
    assert "found" not in text
    assert "The question." in text
