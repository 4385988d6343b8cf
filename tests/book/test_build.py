"""What builds the book: parameters, downloads, notebooks in processes of their own, settings."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest
import yaml

from umlip_latents import book, resources
from umlip_latents.resources import OFFLINE, SILENT, InputError, UnreachableError

METADATA = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Execute notebooks of one cell each as the book does; what they print."""
    for folder in ("notebooks", "source/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(book, "ROOT", tmp_path)

    def run(cells, environment, **parameters):
        for name, code in cells.items():
            parts = [nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]})]
            parts.append(nbformat.v4.new_code_cell(code))
            whole = nbformat.v4.new_notebook(cells=parts, metadata=METADATA)
            nbformat.write(whole, tmp_path / "notebooks" / f"{name}.ipynb")
        book.execute_all(dict.fromkeys(cells, parameters), tmp_path / "source", environment)
        executed = (tmp_path / "source" / "notebooks" / f"{name}.ipynb" for name in cells)
        return [nbformat.read(file, as_version=4).cells[-1].outputs[0].text for file in executed]

    return run


def test_notebooks_get_variables_that_this_process_does_not_have(execute):
    code = "import os; print(x, os.environ['MINE'], os.environ.get('OMP_NUM_THREADS'))"
    before = dict(os.environ)
    assert execute({"00_a": code}, {"MINE": "a"}, x=2) == [f"2 a {before.get('OMP_NUM_THREADS')}\n"]
    assert execute({"00_a": code, "01_b": code}, {"MINE": "b"}) == ["1 b 1\n"] * 2
    assert dict(os.environ) == before


def test_a_failed_cell_is_named_in_one_sentence(execute):
    with pytest.raises(
        InputError, match=r"00_a\.ipynb: cell \[2\] stops with ValueError \(no luck"
    ):
        execute({"00_a": "raise ValueError('no\\nluck')"}, {})


def test_a_chapter_has_the_parameters_of_the_profile_and_those_of_its_reader(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(book, "execute_all", lambda *given: ran.append(given))
    monkeypatch.setattr(book, "fetch_checkpoints", dict)
    monkeypatch.setattr(book, "build_html", lambda *_: None)
    monkeypatch.setattr(book.shutil, "copytree", lambda _, to: Path(to).mkdir(parents=True))
    monkeypatch.chdir(tmp_path)
    Path("mine.py").touch()
    page = book.build("full", tmp_path / "o", "03", {"models": ["mine.py:Model", "chgnet-0.3.0"]})
    assert page == tmp_path / "o" / "html" / "notebooks" / "03_comparison.html"
    given = ran[0][0]["03_comparison"]
    assert given["results"] == tmp_path / "o" / "results"
    assert given["dataset"] == book.load_profile("full")["03_comparison"]["dataset"]
    file, _, name = given["models"][0].rpartition(":")
    assert (book.ROOT / "notebooks" / file).resolve() == tmp_path / "mine.py"
    assert (name, given["models"][1]) == ("Model", "chgnet-0.3.0")
    assert ran[0][2] == {"UMLIP_LATENTS_PROFILE": "own"}


def test_a_folder_that_is_no_books_is_not_emptied(tmp_path):
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match="results: is not of a book, and is not deleted"):
        book.empty_source(tmp_path)
    assert (tmp_path / "results").is_dir()


def test_each_checkpoint_is_tried_for_itself_and_a_silent_host_once(monkeypatch, capsys):
    asked, hosts = [], ("good", "bad", "good", "silent", "bad", "silent")
    files = [(f"{i}.bin", f"https://{host}/{i}.bin", "") for i, host in enumerate(hosts)]
    errors = {"bad": InputError("spoilt."), "silent": UnreachableError("no answer.")}

    def fetch(file, url, _):
        asked.append(file)
        if error := errors.get(url.split("/")[2]):
            raise error

    monkeypatch.delenv(OFFLINE, raising=False)
    monkeypatch.setattr(resources, "find_copy", lambda _: None)
    monkeypatch.setattr(resources, "fetch", fetch)
    monkeypatch.setattr(book, "registered_downloads", lambda _: files)
    assert book.fetch_checkpoints() == {SILENT: "silent"}
    assert asked == ["0.bin", "1.bin", "2.bin", "3.bin", "4.bin"]
    assert capsys.readouterr().err == "spoilt.\nno answer.\nspoilt.\n"
    assert not {OFFLINE, SILENT} & {*os.environ}
    monkeypatch.undo()
    monkeypatch.setenv(SILENT, "good silent")
    with pytest.raises(InputError, match=r"a\.bin: is not at hand, and silent did not answer"):
        resources.download("https://silent/a.bin", Path("a.bin"), None)


def test_pages_know_the_repository_where_the_build_does(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/a-book")
    toc = {"parts": [{"chapters": [{"file": "notebooks/gone"}]}]}
    assert not book.write_configuration(tmp_path, toc, "mine")
    known = yaml.safe_load((tmp_path / "_config.yml").read_text())
    assert known["repository"]["url"].endswith("/someone/a-book")
    assert {"binderhub_url", "colab_url"} == {*known["launch_buttons"]}
    assert known["sphinx"]["config"]["latents_profile"] == "mine"


def test_pages_are_served_to_this_machine(tmp_path, monkeypatch, capsys):
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "page.html").write_text("here")
    answered = []

    def answer_once(server):
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(urlopen, capsys.readouterr().out.split()[0])
            server.handle_request()
            answered.append(asked.result().read())

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", answer_once)
    book.serve(tmp_path / "html" / "page.html")
    assert answered == [b"here"]
