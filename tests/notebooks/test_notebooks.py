"""Notebooks are clean, say what they need, and take the parameters that the profiles set."""

import ast

import nbformat
import papermill
import pytest

from umlip_latents.book import ROOT, load_profile

IMPORTS = (ast.Import, ast.ImportFrom)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted(path.stem for path in (ROOT / "book" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean_and_parameterized(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert "parameters" in code[0].metadata.get("tags", [])
    assert 'results = "../_build/mine"' in code[0].source  # a run by hand leaves the book's alone
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith(f"# {path.stem[:2]} ")
    lines = [line for c in code for line in c.source.splitlines() if line.strip()]
    hidden = {"hide-input", "remove-input", "hide-cell", "remove-cell"}
    folded = [c for c in code if hidden & {*c.metadata.get("tags", [])}]
    assert sum(len(c.source.splitlines()) for c in folded) <= 60
    assert max(len(line) for line in lines) <= 110
    for cell in code:
        if cell not in folded:
            steps = [n for n in ast.parse(cell.source).body if not isinstance(n, IMPORTS)]
            assert sum(n.end_lineno - n.lineno + 1 for n in steps) <= 20, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_figure_has_its_words(path):
    """No more than six, each with a caption and an alt text by hand."""
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    figures = [c.metadata["mystnb"] for c in code if "mystnb" in c.metadata]
    assert 1 <= len(figures) <= 6
    for figure in figures:
        assert len(figure["figure"]["caption"].split()) > 5
        assert len(figure["image"]["alt"].split()) > 5


def test_the_profiles_are_the_default_and_the_full_one():
    assert PROFILES == ["default", "full"]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_set_only_parameters_that_exist(profile):
    for name, parameters in load_profile(profile).items():
        known = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
        assert {*parameters} <= {*known}, name
