"""What builds the book: parameters, notebooks in processes of their own, settings."""

import os
from pathlib import Path

import nbformat
import pytest
import yaml

from umlip_latents import book
from umlip_latents.resources import InputError

METADATA = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Execute notebooks of one cell each as the book does; what they print."""
    for folder in ("notebooks", "done"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(book, "ROOT", tmp_path)

    def run(cells, **parameters):
        for name, code in cells.items():
            parts = [nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]})]
            parts.append(nbformat.v4.new_code_cell(code))
            whole = nbformat.v4.new_notebook(cells=parts, metadata=METADATA)
            nbformat.write(whole, tmp_path / "notebooks" / f"{name}.ipynb")
        book.execute_all(dict.fromkeys(cells, parameters), tmp_path / "done")
        executed = (tmp_path / "done" / f"{name}.ipynb" for name in cells)
        return [nbformat.read(file, as_version=4).cells[-1].outputs[0].text for file in executed]

    return run


def test_a_notebook_has_one_thread_or_what_the_user_has_set(execute):
    code = "import os; print(x, os.environ.get('OMP_NUM_THREADS'))"
    before = dict(os.environ)
    threads = before.get("OMP_NUM_THREADS", "1")
    assert execute({"00_a": code}, x=2) == [f"2 {threads}\n"]
    assert execute({"00_a": code, "01_b": code}, x=1) == [f"1 {threads}\n"] * 2
    assert dict(os.environ) == before


def test_a_failed_cell_is_named_in_one_sentence(execute):
    words = r"00_a\.ipynb: cell \[2\] stops with ValueError \(no luck"
    with pytest.raises(InputError, match=words):
        execute({"00_a": "raise ValueError('no\\nluck')"})


def test_a_chapter_has_the_parameters_of_the_profile_and_those_of_its_reader(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(book, "execute_all", lambda *given: ran.append(given))
    monkeypatch.setattr(book, "build_html", lambda *_, **strict: ran.append(strict))
    monkeypatch.setattr(book.shutil, "copytree", lambda _, to, **__: Path(to).mkdir(parents=True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(book, "remove_cells", lambda *given: ran.append(given))
    settings = {"models": f"{book.ROOT}/notebooks/my_model.py:NearestDistances"}
    page = book.build("full", tmp_path / "o", "4", settings)
    assert page == tmp_path / "o" / "html" / "notebooks" / "04_architectures.html"
    executed = tmp_path / "o" / "source" / "notebooks"
    own = {"models": [settings["models"]], "n_splits": 10, "results": "o/results"}
    own["store"] = os.path.relpath(book.ROOT / "_build" / "features")
    assert ran[0] == ({"04_architectures": own}, executed)
    assert ran[1:] == [(executed / "04_architectures.ipynb", "finding"), {"strict": False}]


def test_no_book_is_built_over_other_folders_or_without_its_sources(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match="results: is not of a book, and is not deleted"):
        book.empty_source(tmp_path)
    assert (tmp_path / "results").is_dir()
    monkeypatch.setattr(book, "ROOT", tmp_path)
    with pytest.raises(InputError, match=r"no such file; build in a clone"):
        book.build(only="03")


def test_pages_know_the_repository_where_the_build_does(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/a-book")
    book.write_configuration(tmp_path, {"root": "a"})
    known = yaml.safe_load((tmp_path / "_config.yml").read_text())
    assert (tmp_path / "_toc.yml").read_text() == "root: a\n"
    assert known["repository"]["url"].endswith("/someone/a-book")
    assert {"binderhub_url", "colab_url"} == {*known["launch_buttons"]}
