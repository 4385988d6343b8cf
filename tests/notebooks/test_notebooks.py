"""Notebooks are clean, say what they need, and take the parameters that the profiles set."""

import nbformat
import papermill
import pytest

from umlip_latents.book import ROOT, load_profile

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted(path.stem for path in (ROOT / "book" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean_and_parameterized(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert "parameters" in code[0].metadata.get("tags", [])
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert notebook.cells[0].cell_type == "markdown"
    assert f"umlip-latents book --only {path.stem[:2]}" in notebook.cells[0].source


def test_the_profiles_are_the_default_and_the_full_one():
    assert PROFILES == ["default", "full"]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_set_only_parameters_that_exist(profile):
    for name, parameters in load_profile(profile).items():
        known = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
        assert {*parameters} <= {*known}, name
