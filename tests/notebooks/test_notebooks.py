"""Notebooks are clean, tell what they need, and take the parameters that the profiles set."""

import ast
import re

import nbformat
import pytest

from umlip_latents import figures
from umlip_latents.book import ROOT, load_profile

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLOTS = {n for n, f in vars(figures).items() if getattr(f, "__annotations__", {}).get("return")
         is figures.Figure} | {"heat_map"}  # fmt: skip


def code_of(path):
    """Source and tags of the code cells."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    return [(cell.source, cell.metadata.get("tags", [])) for cell in code]


def visible(path):
    """What the reader sees of the code, the parameters apart, whose cell is as long as they are."""
    return [source for source, tags in code_of(path) if not {"hide-input", "parameters"} & {*tags}]


def calls(tree, name):
    """The calls of a function."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node for node in found if getattr(node.func, "id", "") == name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean_and_parameterized(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert "parameters" in code[0].metadata.get("tags", [])
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert notebook.cells[0].cell_type == "markdown"
    first, last = notebook.cells[0].source, notebook.cells[-1].source
    for word in ("**The question.**", "**What it needs.**", "**Time.**", "**Run this.**"):
        assert word in first
    assert f"umlip-latents book --only {path.stem[:2]}" in first
    assert "Try next" in last
    assert "**Exercise.**" in last
    assert ":::{dropdown} Solution" in last


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_code_is_short_enough_to_be_read(path):
    assert max(len(source.splitlines()) for source in visible(path)) <= 15
    assert max(len(line) for source in visible(path) for line in source.splitlines()) <= 84
    for source, _ in code_of(path):
        assert max(map(len, source.splitlines())) <= 100
        assert not re.search(r"^\s*def ", source, re.M)


def test_the_book_shows_little_code():
    assert sum(len(source.splitlines()) for path in NOTEBOOKS for source in visible(path)) <= 400


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_figure_says_what_is_seen_in_it(path):
    tree = ast.parse("\n".join(source for source, _ in code_of(path)))
    shown = calls(tree, "show")
    assert 1 <= len(shown) <= 6
    assert all(len(call.args) >= 2 for call in shown)  # the figure, and what is seen
    for call in calls(tree, "display"):
        inside = {getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(call)}
        assert not inside & PLOTS


@pytest.mark.parametrize("profile", ["quick", "default", "full"])
def test_profiles_set_only_parameters_that_exist(profile):
    known = {}
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        known[path.stem] = set(re.findall(r"^(\w+) =", cell.source, re.M))
    for name, parameters in load_profile(profile).items():
        assert set(parameters) <= known[name], name
