"""The house: dependencies, profiles, result files."""

import json
import re
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml

from umlip_latents import list_datasets, list_models
from umlip_latents.book import (
    build_chapter,
    execute,
    load_profile,
    seen_from_notebooks,
    serve,
    write_settings,
)
from umlip_latents.pages import (
    ELEMENT,
    architectures,
    benchmark_tables,
    by_use,
    cumulant_steps,
    datasets_table,
    downloads,
    findings,
    headlines,
    hero,
    markdown,
    models_table,
    published_tables,
)
from umlip_latents.provenance import commit
from umlip_latents.resources import InputError
from umlip_latents.results import PUBLISHED, save_results

ROOT = Path(__file__).parents[1]
PUBLIC = runpy.run_path(str(ROOT / "book" / "_ext" / "reference.py"))["public"](ROOT / "notebooks")


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
    text = (ROOT / "pyproject.toml").read_text()
    tools = re.findall(r'"([^"]+)"', re.search(r"^dev = \[(.*?)^\]", text, re.S | re.M)[1])
    assert "ruff>=0.12" in tools
    for requirement in [*dependencies(), *tools]:
        name = re.split(r"[<>=]", requirement)[0]
        assert re.search(rf"^{name}==\S+", lock, re.M), name
    assert "torch==2.13.0" in lock
    assert "://" not in lock


@pytest.mark.parametrize(
    "file",
    [ROOT / "requirements.lock", *sorted((ROOT / "data" / "environments").glob("*.txt"))],
    ids=lambda file: file.stem,
)
def test_every_pin_has_the_hashes_of_its_files(file):
    lines = [li for li in file.read_text().replace("\\\n", "").splitlines() if li[:1] not in "#"]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[^ ;]+( ;[^;]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), (
            line
        )


def test_the_tests_that_hold_what_is_promised_exist():
    named = set(re.findall(r"`(tests/\S+\.py)`", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_unknown_profiles_are_refused():
    with pytest.raises(InputError, match="no such profile"):
        load_profile("huge")


def test_results_carry_provenance(tmp_path):
    table = pd.DataFrame({"a": [1.5], "b": ["x"]})
    save_results(tmp_path / "r", "01_x", [{"question": "q", "finding": "f"}], numbers=table)
    assert pd.read_csv(tmp_path / "r" / "01_x-numbers.csv").equals(table)
    saved = json.loads((tmp_path / "r" / "01_x.json").read_text())
    assert {"versions", "commit", "machine"} <= set(saved["provenance"])
    assert saved["profile"]
    assert len(list((tmp_path / "r").iterdir())) == 2


def test_headlines_stand_on_the_front_page_with_their_chapter(tmp_path):
    save_results(tmp_path, "01_x", [], ["It is so.", "And so."])
    save_results(tmp_path, "02_y", [{"question": "q", "finding": "f"}])
    assert headlines(tmp_path).splitlines() == [
        f"- {text} ([more](../notebooks/01_x.ipynb))" for text in ("It is so.", "And so.")
    ]


def test_the_front_figure_says_how_often_the_bare_element_is_better():
    matrix = architectures()
    assert 0 < matrix.loc[ELEMENT].min() < matrix.loc[ELEMENT].max() < 1
    families = list(matrix.columns)
    assert len(families) >= 5
    element = (matrix.index == ELEMENT)[:, None]
    better, worse = (
        pd.DataFrame(np.where(element, matrix, value), matrix.index, matrix.columns)
        for value in (0.01, 2)
    )
    n = len(families) * (len(families) - 1)
    assert f"In {n} of {n} cases" in hero(worse)
    assert f"In 0 of {n} cases" in hero(better)


def test_a_failed_cell_is_named_in_one_sentence(tmp_path):
    cells = [nbformat.v4.new_code_cell(code) for code in ("x = 1", "raise ValueError('no\\nluck')")]
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "a.ipynb")
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(InputError, match=r"a\.ipynb: cell \[2\] stops with ValueError \(no luck\)"):
        execute(tmp_path / "a.ipynb", tmp_path, {})


def test_a_chapter_takes_only_parameters_that_it_has(tmp_path):
    with pytest.raises(InputError, match="0: no such notebook"):
        build_chapter("0", "quick", {}, tmp_path)
    with pytest.raises(InputError, match=r"modls: no such parameter of 03_.* \(models"):
        build_chapter("03", "quick", {"modls": ["chgnet-0.3.0"]}, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_chapter_has_the_parameters_of_the_profile_and_those_of_its_reader(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("umlip_latents.book.execute", lambda *given: ran.append(given))
    monkeypatch.setattr("umlip_latents.book.build_html", lambda source, output: output)
    build_chapter("03", "quick", {"n_splits": 7}, tmp_path)
    notebook, _, parameters = ran[0]
    assert notebook.stem == "03_comparison"
    wanted = load_profile("quick")["03_comparison"] | {"n_splits": 7}
    assert wanted.items() <= parameters.items()


def test_files_among_the_parameters_are_those_of_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    given = ["mine.py:Model", "chgnet-0.3.0", 3]
    found = seen_from_notebooks(given)
    assert found[1:] == given[1:]
    file, _, name = found[0].rpartition(":")
    assert (ROOT / "notebooks" / file).resolve() == tmp_path / "mine.py"
    assert name == "Model"


def test_pages_know_the_repository_where_the_build_does(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    write_settings(tmp_path, {}, {})
    plain = yaml.safe_load((tmp_path / "_config.yml").read_text())
    assert not {"repository", "launch_buttons"} & {*plain}
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/a-book")
    write_settings(tmp_path, {}, {"a": "b"})
    known = yaml.safe_load((tmp_path / "_config.yml").read_text())
    assert known["repository"]["url"].endswith("/someone/a-book")
    assert known["html"]["use_repository_button"]
    assert {"binderhub_url", "colab_url"} == {*known["launch_buttons"]}
    assert known["sphinx"]["config"]["myst_substitutions"] == {"a": "b"}


def test_pages_are_served_to_this_machine(tmp_path, monkeypatch, capsys):
    (tmp_path / "page.html").write_text("here")
    answered = []

    def answer_once(server):
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(urlopen, capsys.readouterr().out.split()[0])
            server.handle_request()
            answered.append(asked.result().read())
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", answer_once)
    serve(tmp_path / "page.html", tmp_path)
    assert answered == [b"here"]


def test_tables_of_the_pages():
    table = pd.DataFrame({"a": ["x", "1.50"], "b": [0.5, None], "c": [7, 8]})
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in markdown(table).splitlines()]
    assert cells[0] == ["a", "b", "c"]
    assert cells[2:] == [["x", "0.50", "7"], ["1.50", "-", "8"]]


def test_a_name_is_measured_where_a_result_file_has_it(tmp_path):
    pd.DataFrame({"model": ["b"], "error on c": [1]}).to_csv(tmp_path / "01_x-a.csv", index=False)
    pd.DataFrame({"source": ["c"], "target": ["bb"]}).to_csv(tmp_path / "02_y-a.csv", index=False)
    table = pd.DataFrame({"name": ["`a`", "`b`", "`c`"], "family": "F"})
    found = by_use("models", table, tmp_path, tmp_path / "none")
    rows = {part: text.splitlines()[2:] for part, text in found.items()}
    assert [line.split(" ")[1] for line in rows["models_measured"]] == ["`c`", "`b`"]
    chapters = "[01](../notebooks/01_x.ipynb), [02](../notebooks/02_y.ipynb)"
    assert chapters in rows["models_measured"][0]
    assert [line.split(" ")[1] for line in rows["models_known"]] == ["`a`"]


def test_the_matrices_of_the_paper_quote_each_of_its_errors_and_no_diagonal():
    table = pd.read_csv(PUBLISHED).query("study == 'umlips-mad-test' and metric == 'lfre'")
    text = published_tables().split("**LFRE, umlips-mad-test**")[1].split("**")[0]
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.strip().splitlines()]
    names = cells[0][1:]
    assert sorted(names) == sorted(table["target"].unique())
    found = {(row[0], n): e for row in cells[2:] for n, e in zip(names, row[1:], strict=True)}
    expected = {(row.source, row.target): f"{row.value:.2f}" for row in table.itertuples()}
    assert found == {(name, name): "-" for name in names} | expected


def test_cumulant_steps_quote_one_order_and_the_next(tmp_path):
    errors = {("order-1", "order-2"): 0.31, ("order-2", "order-3"): 0.52, ("order-1", "order-3"): 9}
    rows = [("mine", "a", "gfre", *ends, value) for ends, value in errors.items()]
    columns = ["dataset", "model", "metric", "source", "target", "error"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "02_cumulants-orders.csv", index=False)
    lines = cumulant_steps({"here": tmp_path, "nowhere": tmp_path / "none"}).splitlines()
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in lines]
    assert cells[0][:5] == ["run", "data set", "model", "1 to 2", "2 to 3"]
    assert cells[2][:6] == ["here", "mine", "a", "0.31", "0.52", "-"]
    assert [row[0] for row in cells[2:]] == ["here", "paper"]


def test_benchmarks_are_quoted(tmp_path):
    file = tmp_path / "benchmarks.json"
    made = {"commit": "abc", "machine": "M", "cores": 3, "torch_threads": 2}
    section = {"title": "T", "header": ["a", "b"], "rows": [["x", 7]]}
    file.write_text(json.dumps({"provenance": made, "sections": [section]}))
    text = benchmark_tables(file)
    assert "commit abc on M with 3 cores, 2 of them" in text
    assert "**T**\n\n| a" in text
    assert re.search(r"\| x +\| 7 +\|", text)


def test_every_public_function_shows_an_example():
    functions = {name: f for name, f in PUBLIC.items() if not isinstance(f, type)}
    lacking = [name for name, f in functions.items() if ">>>" not in (f.__doc__ or "")]
    assert not lacking, lacking


def test_the_reference_has_a_place_for_everything_public():
    pages = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "book" / "api").glob("*.md"))
    for name, found in PUBLIC.items():
        assert f"automodule:: {found.__module__}\n   :members:" in pages, name


def test_a_commit_is_named_and_unknown_without_git(monkeypatch):
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?|v.*", commit())
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"


def test_tables_can_be_downloaded_from_each_build(tmp_path):
    for folder, tables in (("here", ("03_a-x", "03_a-y")), ("full", ("03_a-x", "04_b-z"))):
        (tmp_path / folder).mkdir()
        for table in tables:
            (tmp_path / folder / f"{table}.csv").write_text("a\n1\n")
    text = downloads({"this build": tmp_path / "here", "full scale": tmp_path / "full"})
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "{download}`x <../here/03_a-x.csv>`, {download}`y <../here/03_a-y.csv>`" in rows["03_a"]
    assert "{download}`x <../full/03_a-x.csv>`" in rows["03_a"]
    assert "{download}`z <../full/04_b-z.csv>`" in rows["04_b"]
    assert "here" not in rows["04_b"]


def test_what_a_notebook_found_stands_under_its_link(tmp_path):
    table = pd.DataFrame({"a": [1]})
    finding = {"question": "Is it so?", "finding": "It is."}
    save_results(tmp_path, "03_a", [finding], numbers=table, nothing=table[:0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["03_a-numbers.csv", "03_a.json"]
    text = findings(tmp_path)
    assert text.startswith("**[](../notebooks/03_a.ipynb)**")
    assert "Is it so?" in text
    assert "It is." in text


def test_the_tables_of_the_catalogue_have_a_row_for_each_entry():
    models, datasets = models_table(), datasets_table()
    listed = {name: e for name, e in list_models().items() if e["family"] != "plug-in"}
    assert list(models["name"]) == [f"`{name}`" for name in listed]
    row = models.set_index("name").loc["`chgnet-0.3.0`"]
    assert (row["parameters"], row["backbone / last layer"]) == ("412,525", "64 / 64")
    assert list(datasets["name"]) == [f"`{name}`" for name in list_datasets()]
    assert datasets.set_index("name").loc["`embedded`", "structures"] == "948"
