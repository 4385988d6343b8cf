"""The Sphinx extension that fills the pages with tables: rows from registries, files, the paper."""

import json
import re

import pages as filling
import pandas as pd

from umlip_latents import list_datasets, list_models
from umlip_latents.resources import PUBLISHED


def cells(table: str) -> list[list[str]]:
    """The cells of a table in Markdown, row by row."""
    return [re.split(r"\s*\|\s*", line)[1:-1] for line in table.strip().splitlines()]


def test_every_model_stands_in_one_table(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "01_x-a.csv", index=False)
    found = filling.substitutions(tmp_path)
    names = [
        row[0]
        for part in ("measured", "known", "ours")
        for row in cells(found[f"models_{part}"])[2:]
    ]
    assert sorted(names) == sorted(f"`{name}`" for name in list_models())
    measured = [row[0] for row in cells(found["models_measured"])[2:]]
    assert {"`chgnet-0.3.0`", "`nequix-mp-1`", "`element`"} <= {*measured}


def test_the_matrices_of_the_paper_quote_each_of_its_errors_and_no_diagonal():
    table = pd.read_csv(PUBLISHED).query("study == 'umlips-mad-test' and metric == 'lfre'")
    text = filling.published_tables().split("**LFRE, umlips-mad-test**")[1].split("**")[0]
    head, _, *rows = cells(text)
    found = {(row[0], n): e for row in rows for n, e in zip(head[1:], row[1:], strict=True)}
    expected = {(row.source, row.target): f"{row.value:.2f}" for row in table.itertuples()}
    assert found == {(name, name): "-" for name in head[1:]} | expected


def test_benchmarks_are_quoted(tmp_path):
    section = {"title": "T", "header": ["a", "b"], "rows": [["x", 7]]}
    content = {"provenance": {"commit": "abc"}, "sections": [section]}
    (tmp_path / "b.json").write_text(json.dumps(content))
    text = filling.benchmark_tables(tmp_path / "b.json")
    assert "commit abc" in text
    assert cells(text.split("**T**")[1])[2] == ["x", "7"]


def test_the_tables_of_the_catalogue_have_a_row_for_each_entry():
    models, datasets = filling.models_table(), filling.datasets_table()
    assert list(models["name"]) == [f"`{name}`" for name in list_models()]
    row = models.set_index("name").loc["`chgnet-0.3.0`"]
    assert (row["parameters"], row["backbone / last layer"]) == ("412,525", "64 / 64")
    assert list(datasets["name"]) == [f"`{name}`" for name in list_datasets()]
