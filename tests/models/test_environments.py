"""Environments of clashing families, and commands that run in one."""

import json
import subprocess
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from umlip_latents.cli import main
from umlip_latents.models import environments
from umlip_latents.models.environments import (
    READY,
    environment_folder,
    list_environments,
    make_environment,
    remove_environment,
    run_in_environment,
)
from umlip_latents.resources import OFFLINE, InputError

SHADOWED = "iniconfig"  # a package that this Python has, too


def write_wheel(folder, version):
    """A package of one line, as a wheel."""
    info = f"{SHADOWED}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{SHADOWED}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{SHADOWED}/__init__.py", f"own = {version!r}\n")
        metadata = f"Metadata-Version: 2.1\nName: {SHADOWED}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An environment whose one package is a newer version of one that this Python has."""
    folder = tmp_path_factory.mktemp("environments")
    write_wheel(folder, "999.0")
    text = f"--no-index\n--find-links {folder}\n{SHADOWED}==999.0\n"
    (folder / "tiny.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "REQUIREMENTS", folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv(OFFLINE, raising=False)
        yield make_environment("tiny")


def printed_by(python, code):
    """What a line of Python prints there."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def test_an_environment_shadows_some_packages_and_shares_the_others(tiny):
    assert printed_by(tiny, f"import {SHADOWED}; print({SHADOWED}.own)") == "999.0\n"
    code = "from importlib.util import find_spec; print(find_spec('torch').origin)"
    assert printed_by(tiny, code) == f"{torch.__file__}\n"
    import iniconfig

    assert not hasattr(iniconfig, "own")
    assert list_environments() == {"tiny": "ready"}


def test_an_incomplete_environment_is_repaired(tiny):
    folder = environment_folder("tiny")
    (folder / READY).unlink()
    (folder / "bin" / "python").unlink()
    assert list_environments() == {"tiny": "not made"}
    assert printed_by(make_environment("tiny"), "print(1)") == "1\n"
    assert list_environments() == {"tiny": "ready"}


def test_two_makers_make_it_once_and_nobody_again(tiny, monkeypatch):
    create, calls = venv.create, []
    monkeypatch.setattr(venv, "create", lambda *a, **b: (calls.append(a), create(*a, **b)))
    remove_environment("tiny")
    assert list_environments() == {"tiny": "not made"}
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(make_environment, ["tiny"] * 3)] == [tiny] * 3
    assert len(calls) == 1


def test_nothing_is_installed_while_offline(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv(OFFLINE, "1")
    assert make_environment("tiny") == tiny  # which is there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"tiny: is not made, and .* while {OFFLINE} is set"):
        make_environment("tiny")
    assert list_environments() == {"tiny": "not made"}


def test_what_pip_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad.txt").write_text("--no-index\nno-such-package==1.0\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(OFFLINE, raising=False)
    assert main(["environments", "--make", "bad"]) == 1
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("umlip-latents: environment bad: pip stops with No matching")
    assert main(["environments", "--remove", "bad"]) == 0
    assert "not made" in capsys.readouterr().out
    assert main(["environments", "--make", "worse"]) == 1
    assert "no such environment (bad)" in capsys.readouterr().err


def test_a_command_runs_there_and_its_lines_and_errors_are_seen(tiny):
    lines = []
    run_in_environment("tiny", ["datasets", "--json"], lines.append)
    assert "embedded" in json.loads("".join(lines))
    with pytest.raises(InputError, match=r"^worse: no such environment"):
        run_in_environment("tiny", ["environments", "--make", "worse"], print)


def test_a_crash_there_is_one_sentence(tiny, monkeypatch):
    (own,) = environment_folder("tiny").glob("lib/python*/site-packages")
    (own / "click.py").write_text("raise RuntimeError('no click today')\n")
    with pytest.raises(InputError, match=r"environment tiny: .* stops with .*no click today$"):
        run_in_environment("tiny", ["datasets"], print)
    (own / "click.py").unlink()
