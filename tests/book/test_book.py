"""The built book: the notebooks run through papermill, the pages are whole and need no web."""

import json
import re
import runpy
from base64 import b64decode
from functools import cache
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import pandas as pd
import pytest

from umlip_latents.book import ROOT
from umlip_latents.results import REFERENCE


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


def test_no_cell_ended_in_an_error_and_every_notebook_shows_figures(html):
    for path in sorted((html.parent / "source" / "notebooks").glob("*.ipynb")):
        outputs = [
            output
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code"
            for output in cell.outputs
        ]
        assert not [o for o in outputs if o.output_type == "error"], path.name
        # a page would show what such an output is called
        assert all(o["data"].get("text/markdown", "words") for o in outputs if "data" in o), (
            path.name
        )
        shown = "".join(o.get("data", {}).get("text/html", "") for o in outputs)
        assert '<figure class="result">' in shown, path.name


def test_notebook_pages_show_figures(html):
    for page in (html / "notebooks").glob("*.html"):
        assert '<figure class="result">' in page.read_text(encoding="utf-8"), page.name


def test_every_inner_link_leads_somewhere(html, pages):
    for page in pages:
        for link in parsed(page).links:
            url = urlparse(link)
            if url.scheme or url.netloc:
                assert url.scheme in ("https", "http", "mailto"), link
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            assert target.is_file(), f"{page.name}: {link}"
            if url.fragment and target.suffix == ".html":
                assert unquote(url.fragment) in parsed(target).anchors, f"{page.name}: {link}"


def test_no_page_needs_the_web(html, pages):
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


def test_the_front_page_has_a_figure_and_headlines_of_the_public_checkpoints(html):
    text = (html / "book" / "index.html").read_text(encoding="utf-8")
    for chapter in ("03_comparison", "04_fine_tuning", "07_natural_experiments"):
        assert re.search(rf'href="\.\./notebooks/{chapter}\.html">(<[^>]*>)*more', text), chapter
    assert re.search(r"<figcaption>.*In \d+ of \d+ cases a network rebuilds", text, re.S)


def test_the_evidence_tells_what_each_notebook_found_and_hands_out_its_tables(html):
    page = html / "book" / "results.html"
    text = page.read_text(encoding="utf-8")
    files = {*re.findall(r'href="(\.\./_downloads/[^"]*/([^/"]*\.csv))"', text)}
    assert len(files) > 20
    for link, name in files:
        chapter = name.partition("-")[0]
        assert f'href="../notebooks/{chapter}.html"' in text, chapter
        assert (page.parent / link).read_text(encoding="utf-8").count("\n") > 1, name


def test_result_tables_are_written(html):
    names = {p.name for p in (html.parent / "results").iterdir()}
    assert {
        "01_extraction.json",
        "03_comparison-errors.csv",
        "04_fine_tuning-retention.csv",
    } <= names


@pytest.fixture(scope="module")
def atlas(html) -> str:
    """The HTML that the notebook of the atlas displays."""
    notebook = nbformat.read(html.parent / "source" / "notebooks" / "11_atlas.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.mark.parametrize("target", ["atom", "structure"])
def test_a_viewer_has_every_property_of_every_point(atlas, target):
    call = rf'loadChemiscopeSphinx\?\.\("atlas-{target}s", "data:application/json;base64,([^"]+)"'
    content = json.loads(b64decode(re.search(call, atlas)[1]))
    sizes = [structure["size"] for structure in content["structures"]]
    n_points = {"atom": sum(sizes), "structure": len(sizes)}[target]
    assert n_points > 30
    assert target == "structure" or len(content["environments"]) == n_points
    shown = [p for p in content["properties"].values() if p["target"] == target]
    assert len(shown) == len(content["properties"]) > 5
    assert {len(p["values"]) for p in shown} == {n_points}


def test_the_explorer_has_every_error_of_the_comparison_and_its_baseline(html, atlas):
    spec = json.loads(re.search(r'vegaEmbed\?\.\("#explorer", (.+), \{renderer', atlas)[1])
    shown = pd.read_csv(StringIO(next(iter(spec["datasets"].values()))), na_values="-")
    name = "03_comparison-errors.csv"
    tables = [pd.read_csv(folder / name) for folder in (html.parent / "results", REFERENCE)]
    errors = pd.concat(tables).sort_values("layer", kind="stable")  # the main one first
    assert shown["error"].to_numpy() == pytest.approx(errors["error"].to_numpy(), rel=1e-3)
    element = shown[shown["source"] == "element"].set_index(["run", "errors", "target"])["error"]
    keys = pd.MultiIndex.from_frame(shown[["run", "errors", "target"]])
    expected = element.reindex(keys).to_numpy()
    assert shown["bare element"].to_numpy() == pytest.approx(expected, abs=0.006, nan_ok=True)
    assert shown["bare element"].notna().sum() > len(shown) / 2


def test_only_pages_that_draw_load_what_draws(html):
    scripts = {"chemiscope.min.js", "chemiscope-sphinx.js", "vega-embed.js"}
    for page in (html / "notebooks").glob("*.html"):
        loaded = {urlparse(r).path.rpartition("/")[2] for r in parsed(page).resources} & scripts
        assert loaded == (scripts if page.stem == "11_atlas" else set()), page.name
