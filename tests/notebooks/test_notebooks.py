"""Notebooks are clean, tell what they need, and take the parameters that the profiles set."""

import re

import nbformat
import pytest

from umlip_latents.book import ROOT, load_profile

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean_and_parameterized(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert "parameters" in code[0].metadata.get("tags", [])
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert notebook.cells[0].cell_type == "markdown"
    assert "**Time.**" in notebook.cells[0].source
    assert "Try next" in notebook.cells[-1].source


@pytest.mark.parametrize("profile", ["quick", "default", "full"])
def test_profiles_set_only_parameters_that_exist(profile):
    known = {}
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        known[path.stem] = set(re.findall(r"^(\w+) =", cell.source, re.M))
    for name, parameters in load_profile(profile).items():
        assert set(parameters) <= known[name], name
