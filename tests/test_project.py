"""Packages, registries and the reference: what is declared is whole, and holds what code reads."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
import yaml

from umlip_latents.resources import DATA, registry, save_results

ROOT = Path(__file__).parents[1]
PUBLIC = runpy.run_path(str(ROOT / "book" / "_ext" / "reference.py"))["public"](ROOT / "notebooks")
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def requirements(key: str) -> list[str]:
    """The packages that pyproject.toml names under a key."""
    block = re.search(rf"^{key} = \[(.*?)\]$", PYPROJECT, re.S | re.M)[1]
    return re.findall(r'"([^"]+)"', block)


def test_the_conda_environment_is_the_twin_of_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert sorted(pip) == sorted(requirements("dependencies"))


def test_the_lock_pins_every_dependency():
    lock = (ROOT / "requirements.lock").read_text().lower()
    for requirement in requirements("dependencies") + requirements("dev"):
        name = re.split(r"[<>=]", requirement)[0]
        assert re.search(rf"^{name}==\S+", lock, re.M), name
    assert "://" not in lock


@pytest.mark.parametrize(
    "file",
    [ROOT / "requirements.lock", *sorted((DATA / "environments").glob("*.txt"))],
    ids=lambda file: file.stem,
)
def test_every_pin_has_the_hashes_of_its_files(file):
    lines = [li for li in file.read_text().replace("\\\n", "").splitlines() if li[:1] not in "#"]
    assert lines
    pin = r"[\w.-]+==[^ ;]+( ;[^;]+?)?( +--hash=sha256:[0-9a-f]{64})+"
    assert [line for line in lines if not re.fullmatch(pin, line)] == []


def test_an_entry_of_a_registry_has_what_is_read_of_it():
    entries = [*registry("models").values(), *registry("datasets").values()]
    for part in (part for entry in entries for part in (entry, entry.get("arguments", {}))):
        for key, value in part.items():
            assert key not in ("url", "landing_page") or value.startswith("https://")
            assert key != "sha256" or re.fullmatch("[0-9a-f]{64}", value)
            assert key not in ("file", "path") or not Path(value).is_absolute()
    for entry in registry("datasets").values():
        assert {"description", "licence", "citation"} <= {*entry}
        assert len({"path", "file", "landing_page"} & {*entry}) == 1
        assert "landing_page" in entry or "sha256" in entry
        assert ("file" in entry) == ("url" in entry)
    for entry in registry("claims").values():
        assert {"section", "place", "claim", "verdict", "text"} <= {*entry}


def test_the_tests_that_hold_what_is_promised_exist():
    named = set(re.findall(r"`(tests/\S+\.py)`", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_results_carry_their_provenance(tmp_path):
    table = pd.DataFrame({"a": [1.5], "b": ["x"]})
    save_results(tmp_path / "r", "01_x", numbers=table, nothing=table[:0])
    assert pd.read_csv(tmp_path / "r" / "01_x-numbers.csv").equals(table)
    saved = yaml.safe_load((tmp_path / "r" / "01_x.json").read_text())
    assert {"versions", "commit", "machine"} <= set(saved["provenance"])
    assert len(list((tmp_path / "r").iterdir())) == 2


def test_every_public_function_shows_an_example():
    functions = {name: f for name, f in PUBLIC.items() if not isinstance(f, type)}
    lacking = [name for name, f in functions.items() if ">>>" not in (f.__doc__ or "")]
    assert not lacking, lacking
