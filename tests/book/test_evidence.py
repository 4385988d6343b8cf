"""Every number in the text stands in a table: the sentences of a chapter, and what fills them.

`book/evidence/NN_name.py` has, for the chapter of that name, a function `sentences(tables)` that
yields sentences with gaps and the numbers for them, and asserts what the sentences conclude. A
decimal that no sentence fills fails. When a table changes, this says which sentences to rewrite.
"""

import re
import runpy
from collections import defaultdict
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from umlip_latents.book import ROOT
from umlip_latents.resources import DATA

RESULTS = DATA / "reference-results"
EVIDENCE = ROOT / "book" / "evidence"
DECIMAL = re.compile(r"(?<![\w.])[-−]?\d+\.\d+(?![\w.]*\d*\.)")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PAGES = [ROOT / "book" / f"{name}.md" for name in ("index", "claims", "glossary")]
SOURCES = {path.stem: path for path in (*NOTEBOOKS, *PAGES)}


class Tables(dict):
    """The tables of a chapter's own run, by name; those of others on demand."""

    def __init__(self, chapter: str) -> None:
        files = RESULTS.glob(f"{chapter}-*.csv")
        super().__init__({p.stem.removeprefix(f"{chapter}-"): pd.read_csv(p) for p in files})

    def of(self, name: str) -> pd.DataFrame:
        """A table of another chapter, ``04_architectures-errors``."""
        return pd.read_csv(RESULTS / f"{name}.csv")

    def full(self, name: str) -> pd.DataFrame:
        """A table of a long run."""
        return pd.read_csv(RESULTS / "full" / f"{name}.csv")


def plain(text: str) -> str:
    """Text as it is read: no formulas, citations, targets of links, marks of emphasis."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$", " ", text, flags=re.S)
    text = re.sub(r"\{(?:cite|doc|ref|numref)[^}]*\}`[^`]*`", " ", text)
    text = re.sub(r"\{[a-z:]+\}`([^`<]*?)(?:\s*<[^>]*>)?`", r"\1", text)
    text = re.sub(r"`([^`]*)`", lambda code: DECIMAL.sub("#", code[1]), text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return " ".join(re.sub(r"[*_\[\]]", "", text).split())


def texts(path: Path) -> dict[str, list[str]]:
    """What people wrote in a chapter or page: ``method``, and ``finding`` with captions."""
    if path.suffix == ".md":
        files = [path, *([DATA / "claims.yaml"] if path.stem == "claims" else [])]
        return {"method": [], "finding": [plain(f.read_text(encoding="utf-8")) for f in files]}
    found = defaultdict(list)
    for cell in nbformat.read(path, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            found["finding" if "finding" in tags else "method"].append(plain(cell.source))
        else:
            parts = cell.metadata.get("mystnb", {})
            words = parts.get("image", {}).get("alt"), parts.get("figure", {}).get("caption")
            found["finding"] += [plain(word) for word in words if word]
    return found


def filled(name: str) -> list[str]:
    """The sentences of a chapter with their numbers, as its text must have them."""
    path = EVIDENCE / f"{name}.py"
    if not path.is_file():
        return []
    sentences = runpy.run_path(str(path))["sentences"](Tables(name))
    return [plain(sentence.format(*numbers)) for sentence, *numbers in sentences]


@pytest.mark.parametrize("name", SOURCES)
def test_every_number_in_the_text_comes_from_a_table(name):
    text, sentences = texts(SOURCES[name]), filled(name)
    whole = " ¶ ".join(text["finding"])
    missing = [sentence for sentence in sentences if sentence not in whole]
    assert not missing, "the tables now say"
    for sentence in sorted(sentences, key=len, reverse=True):
        whole = whole.replace(sentence, " ")
    unfilled = [whole[max(0, m.start() - 60) : m.end() + 20] for m in DECIMAL.finditer(whole)]
    assert not unfilled, "no evidence for these decimals"
    assert not DECIMAL.findall(" ".join(text["method"])), "a number outside a finding"


def test_the_check_finds_a_changed_number_and_one_without_evidence(tmp_path, monkeypatch):
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_markdown_cell(
        "It is **0.5** of `a-0.3`.", metadata={"tags": ["finding"]}
    )
    notebook.cells.append(cell)
    nbformat.write(notebook, tmp_path / "99_x.ipynb")
    (tmp_path / "99_x.py").write_text("def sentences(tables):\n    yield 'It is {:.1f} of', 0.5\n")
    monkeypatch.setattr("tests.book.test_evidence.EVIDENCE", tmp_path)
    monkeypatch.setitem(SOURCES, "99_x", tmp_path / "99_x.ipynb")
    test_every_number_in_the_text_comes_from_a_table("99_x")
    for old, new in (("{:.1f} of', 0.5", "{:.1f} of', 0.6"), ("It is {:.1f} of', 0.6", "It is'")):
        file = tmp_path / "99_x.py"
        file.write_text(file.read_text().replace(old, new))
        with pytest.raises(AssertionError):
            test_every_number_in_the_text_comes_from_a_table("99_x")
