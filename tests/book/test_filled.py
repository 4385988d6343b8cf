"""The Sphinx extension that fills the pages: numbers from tables, rows from registries."""

import json
import re

import pages as filling
import pandas as pd

from umlip_latents import list_datasets, list_models
from umlip_latents.resources import PUBLISHED, save_results


def cells(table: str) -> list[list[str]]:
    """The cells of a table in Markdown, row by row."""
    return [re.split(r"\s*\|\s*", line)[1:-1] for line in table.strip().splitlines()]


def test_headlines_and_findings_stand_beside_a_link_to_their_chapter(tmp_path):
    save_results(tmp_path, "01_x", [], ["It is so.", "And so."])
    save_results(tmp_path, "02_y", [{"question": "q", "finding": "f"}])
    assert filling.headlines(tmp_path).splitlines() == [
        f"- {text} ([more](../notebooks/01_x.ipynb))" for text in ("It is so.", "And so.")
    ]
    assert filling.findings(tmp_path).endswith("**[](../notebooks/02_y.ipynb)**\n\n- **q** F.")


def test_the_front_figure_is_drawn_and_says_how_often_the_element_is_better(tmp_path):
    matrix = filling.architectures()
    assert 0 < matrix.loc[filling.ELEMENT].min() < matrix.loc[filling.ELEMENT].max() < 1
    n = len(matrix.columns) * (len(matrix.columns) - 1)
    for value, n_worse in ((2, n), (0.01, 0)):
        other = pd.DataFrame(float(value), matrix.index, matrix.columns)
        other.loc[filling.ELEMENT] = matrix.loc[filling.ELEMENT]
        assert f"In {n_worse} of {n} cases" in filling.hero(other)
    filling.draw_architectures(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_a_name_is_measured_where_a_result_file_has_it(tmp_path):
    pd.DataFrame({"model": ["b"], "error on c": [1]}).to_csv(tmp_path / "01_x-a.csv", index=False)
    pd.DataFrame({"source": ["c"], "target": ["bb"]}).to_csv(tmp_path / "02_y-a.csv", index=False)
    table = pd.DataFrame({"name": ["`a`", "`b`", "`c`"], "family": "F"})
    found = filling.by_use("models", table, tmp_path, tmp_path / "none")
    measured, known = (cells(found[f"models_{part}"])[2:] for part in ("measured", "known"))
    assert [row[0] for row in measured] == ["`c`", "`b`"]
    assert measured[0][1] == "[01](../notebooks/01_x.ipynb), [02](../notebooks/02_y.ipynb)"
    assert [row[0] for row in known] == ["`a`"]


def test_the_matrices_of_the_paper_quote_each_of_its_errors_and_no_diagonal():
    table = pd.read_csv(PUBLISHED).query("study == 'umlips-mad-test' and metric == 'lfre'")
    text = filling.published_tables().split("**LFRE, umlips-mad-test**")[1].split("**")[0]
    head, _, *rows = cells(text)
    found = {(row[0], n): e for row in rows for n, e in zip(head[1:], row[1:], strict=True)}
    expected = {(row.source, row.target): f"{row.value:.2f}" for row in table.itertuples()}
    assert found == {(name, name): "-" for name in head[1:]} | expected


def test_steps_of_cumulants_and_benchmarks_are_quoted(tmp_path):
    errors = {("order-1", "order-2"): 0.31, ("order-2", "order-3"): 0.52, ("order-1", "order-3"): 9}
    rows = [("mine", "a", "gfre", *ends, value) for ends, value in errors.items()]
    columns = ["dataset", "model", "metric", "source", "target", "error"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "02_cumulants-orders.csv", index=False)
    assert cells(filling.cumulant_steps({"here": tmp_path}))[2][3:5] == ["0.31", "0.52"]
    made = {"commit": "abc", "machine": "M", "cores": 3, "torch_threads": 2}
    section = {"title": "T", "header": ["a", "b"], "rows": [["x", 7]]}
    (tmp_path / "b.json").write_text(json.dumps({"provenance": made, "sections": [section]}))
    text = filling.benchmark_tables(tmp_path / "b.json")
    assert "commit abc on M with 3 cores, 2 of them" in text
    assert cells(text.split("**T**")[1])[2] == ["x", "7"]


def test_the_tables_of_the_catalogue_have_a_row_for_each_entry():
    models, datasets = filling.models_table(), filling.datasets_table()
    assert list(models["name"]) == [f"`{name}`" for name in list_models()]
    row = models.set_index("name").loc["`chgnet-0.3.0`"]
    assert (row["parameters"], row["backbone / last layer"]) == ("412,525", "64 / 64")
    assert list(datasets["name"]) == [f"`{name}`" for name in list_datasets()]
