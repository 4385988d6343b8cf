"""The house: dependencies, profiles, result files."""

import json
import re
from pathlib import Path

import pytest
import yaml

from umlip_latents.book import (
    benchmark_tables,
    load_profile,
    markdown_table,
    published_tables,
    save_results,
)
from umlip_latents.resources import InputError

ROOT = Path(__file__).parents[1]


def dependencies() -> list[str]:
    """The dependencies that pyproject.toml names."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M)[1]
    return re.findall(r'"([^"]+)"', block)


def test_the_conda_environment_is_the_twin_of_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert sorted(pip) == sorted(dependencies())


def test_the_lock_pins_every_dependency():
    lock = (ROOT / "requirements.lock").read_text().lower()
    for requirement in [*dependencies(), "pytest", "ruff"]:
        name = re.split(r"[<>=]", requirement)[0]
        assert re.search(rf"^{name}==\S+", lock, re.M), name
    assert "torch==2.13.0" in lock
    assert "://" not in lock


def test_unknown_profiles_are_refused():
    with pytest.raises(InputError, match="no such profile"):
        load_profile("huge")


def test_results_carry_provenance(tmp_path):
    import pandas as pd

    table = pd.DataFrame({"a": [1.5], "b": ["x"]})
    save_results(tmp_path / "r", "01_x", [{"question": "q", "finding": "f"}], numbers=table)
    assert pd.read_csv(tmp_path / "r" / "01_x-numbers.csv").equals(table)
    saved = json.loads((tmp_path / "r" / "01_x.json").read_text())
    assert {"versions", "commit", "machine"} <= set(saved["provenance"])
    assert saved["profile"]
    assert len(list((tmp_path / "r").iterdir())) == 2


def test_tables_of_the_pages():
    assert markdown_table(("a", "b"), [(1, 2)]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert "0.95" in published_tables()


def test_benchmarks_are_quoted_where_they_were_measured(tmp_path):
    file = tmp_path / "benchmarks.json"
    assert "make bench" in benchmark_tables(file)
    made = {"commit": "abc", "machine": "M", "cores": 3, "torch_threads": 2}
    section = {"title": "T", "header": ["a", "b"], "rows": [["x", 7]]}
    file.write_text(json.dumps({"provenance": made, "sections": [section]}))
    text = benchmark_tables(file)
    assert "commit abc on M with 3 cores, 2 of them" in text
    assert "**T**\n\n| a | b |\n| --- | --- |\n| x | 7 |" in text
