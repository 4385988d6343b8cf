"""Environments of clashing families, and the features that come back from one."""

import json
import os
import signal
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
from ase import Atoms

from umlip_latents import environments, extract_features, list_models, load_model
from umlip_latents.cli import main
from umlip_latents.environments import (
    READY,
    environment_folder,
    list_environments,
    make_environment,
    remove_environment,
)
from umlip_latents.models import remote as remote_module
from umlip_latents.models.remote import RemoteModel
from umlip_latents.resources import DATA, OFFLINE, InputError

SHADOWED = "iniconfig"  # a package that this Python has, too


def write_wheel(folder, version):
    """A package of one line, as a wheel."""
    info = f"{SHADOWED}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{SHADOWED}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{SHADOWED}/__init__.py", f"own = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {SHADOWED}\nVersion: {version}\n"
        )
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
        yield make_environment("tiny")


def shown_by(python, code):
    """What a line of Python prints there."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def test_an_environment_shadows_some_packages_and_shares_the_others(tiny):
    assert shown_by(tiny, f"import {SHADOWED}; print({SHADOWED}.own)") == "999.0\n"
    code = "from importlib.util import find_spec; print(find_spec('torch').origin)"
    assert shown_by(tiny, code) == f"{torch.__file__}\n"
    import iniconfig

    assert not hasattr(iniconfig, "own")
    assert list_environments() == {"tiny": "ready"}


def test_a_made_environment_is_not_made_again(tiny, monkeypatch):
    monkeypatch.setattr(environments, "install", lambda *_: pytest.fail("made again"))
    assert make_environment("tiny") == tiny


def test_other_requirements_are_another_environment(tiny):
    folder = environment_folder("tiny")
    path = environments.REQUIREMENTS / "tiny.txt"
    text = path.read_text()
    path.write_text(text + "# changed\n")
    assert environment_folder("tiny") != folder
    assert list_environments() == {"tiny": "not made"}
    path.write_text(text)
    assert environment_folder("tiny") == folder


def test_a_half_made_environment_is_repaired(tiny):
    folder = environment_folder("tiny")
    (folder / READY).unlink()
    (folder / "bin" / "python").unlink()
    assert list_environments() == {"tiny": "half-made"}
    assert shown_by(make_environment("tiny"), "print(1)") == "1\n"
    assert list_environments() == {"tiny": "ready"}


def test_a_link_in_the_cache_is_not_followed_out_of_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, others = environment_folder("tiny"), tmp_path / "others"
    others.mkdir()
    (others / READY).write_text("mine")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(others)
    assert list_environments() == {"tiny": "half-made"}
    make_environment("tiny")
    assert not folder.is_symlink()
    remove_environment("tiny")
    folder.symlink_to(others)
    remove_environment("tiny")
    assert list_environments() == {"tiny": "not made"}
    assert [path.read_text() for path in others.iterdir()] == ["mine"]


def test_two_makers_make_it_once(tiny, monkeypatch):
    install, calls = environments.install, []
    monkeypatch.setattr(environments, "install", lambda *a: (calls.append(a), install(*a)))
    remove_environment("tiny")
    assert list_environments() == {"tiny": "not made"}
    makers = [threading.Thread(target=make_environment, args=("tiny",)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(calls) == 1
    assert list_environments() == {"tiny": "ready"}


def test_what_pip_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad.txt").write_text("--no-index\nno-such-package==1.0\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["environments", "--make", "bad"]) == 1
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("umlip-latents: environment bad: pip stops with No matching")
    assert main(["environments", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bad": "half-made"}
    assert main(["environments", "--remove", "bad"]) == 0
    assert "not made" in capsys.readouterr().out
    assert main(["environments", "--make", "worse"]) == 1
    assert "no such environment (bad)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def remote(tiny, models):
    """CHGNet by the Python of the tiny environment."""
    here = models["chgnet-0.3.0"]
    return RemoteModel(here.name, here.fingerprint, here.widths, "tiny")


def test_features_come_back_as_they_are_here(remote, models, crystals, lonely, tmp_path):
    unknown = Atoms("HOg", [(0, 0, 0), (0, 0, 1.8)])
    structures = [lonely, *(a.copy() for a in crystals), unknown]
    structures[1].positions += np.pi * 1e-9  # digits that a text file would round off
    there = extract_features(structures, remote, "last", store=tmp_path, progress=False)
    here = extract_features(structures, models["chgnet-0.3.0"], "last", progress=False)
    # another process may have another number of threads
    assert there.features == pytest.approx(here.features, rel=1e-4, abs=1e-5)
    assert np.array_equal(there.kept, here.kept)
    assert np.array_equal(there.numbers, here.numbers)
    assert there.dropped == here.dropped
    assert set(there.dropped) == {0, 5}
    # a store does not tell where its features were made
    again = extract_features(structures, models["chgnet-0.3.0"], "last", store=tmp_path)
    assert np.array_equal(again.features, there.features)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_stored_feature_needs_no_environment(remote, crystals, models, tmp_path, monkeypatch):
    here = extract_features(crystals, models["chgnet-0.3.0"], "last", store=tmp_path)
    monkeypatch.setattr(remote_module, "make_environment", lambda name: pytest.fail("made"))
    there = extract_features(crystals, remote, "last", store=tmp_path, progress=False)
    assert np.array_equal(there.features, here.features)
    with pytest.raises(InputError, match="but no interaction-9"):
        extract_features(crystals, remote, "interaction-9", store=tmp_path, progress=False)


def test_no_environment_is_made_for_a_file_that_cannot_be_had(crystals, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_module, "make_environment", lambda name: pytest.fail("made"))
    monkeypatch.setenv(OFFLINE, "1")
    file = ("no-such.bin", "https://example.org/no-such.bin", "0" * 64)
    model = RemoteModel("far", "mark", {"last": 1}, "tiny", (file,))
    with pytest.raises(InputError, match=r"no-such\.bin: is not at hand"):
        extract_features(crystals, model, "last", store=tmp_path, progress=False)


def test_the_errors_there_are_the_errors_here(remote, models, lonely):
    with pytest.raises(InputError) as here:
        extract_features([lonely], models["chgnet-0.3.0"], "last", progress=False)
    with pytest.raises(InputError) as there:
        extract_features([lonely], remote, "last", progress=False)
    assert str(there.value) == str(here.value)


def test_a_crash_there_is_one_sentence(remote, crystals, tiny, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    broken = environment_folder("tiny") / "lib"
    own = next(broken.glob("python*/site-packages"))
    (own / "zarr.py").write_text("raise RuntimeError('no zarr today')\n")
    with pytest.raises(InputError, match=r"its environment stops with .*no zarr today$"):
        extract_features(crystals, remote, "last", progress=False)
    (own / "zarr.py").unlink()


@pytest.fixture
def asked(tiny):
    """Its number, and what the Python of the tiny environment prints; nothing waits before."""

    def dismiss():
        while remote_module.waiting:
            remote_module.end(remote_module.waiting.popitem()[1][0])

    dismiss()

    def asked(*command):
        seen = []
        last = remote_module.ask("tiny", command, seen.append)
        return [other.pid for other, _ in remote_module.waiting.values()], last, seen

    yield asked
    dismiss()


def alive(pid):
    """Whether a process is there, or waits for the one that started it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_python_that_has_answered_is_asked_again(asked):
    (one,), last, seen = asked("datasets")
    assert not last
    assert any(line.startswith("embedded") for line in seen)
    (same,), last, _ = asked("extract", "--model", "no-such", "--structures", "embedded")
    assert "Give --output" in last
    assert same == one


def test_who_waits_ends_with_its_input(asked):
    """That ends with the process that asked."""
    asked("datasets")
    [(other, _)] = remote_module.waiting.values()
    other.stdin.close()
    assert other.wait(timeout=60) == 0


@pytest.mark.parametrize("change", ["variable", "folder", "late", "gone"])
def test_another_one_is_asked_where_the_answer_could_be_another(
    asked, change, tmp_path, monkeypatch
):
    (one,), *_ = asked("datasets")
    if change == "variable":
        monkeypatch.setenv(OFFLINE, "1")
    elif change == "folder":
        monkeypatch.chdir(tmp_path)
    elif change == "late":
        monkeypatch.setattr(remote_module, "IDLE", 0)
    else:
        os.kill(one, signal.SIGKILL)
        [(killed, _)] = remote_module.waiting.values()
        killed.wait()
    *_, other = asked("datasets")[0]
    assert other != one
    assert alive(one) == (change in ("variable", "folder"))


def test_who_is_not_heard_out_ends(asked, monkeypatch):
    (one,), *_ = asked("datasets")

    def interrupted(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote_module.ask("tiny", ["datasets"], interrupted)
    assert not remote_module.waiting
    assert not alive(one)


def test_a_model_of_another_environment_is_named_without_making_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = load_model("7net-mf-0-PBE"), load_model("7net-mf-0-R2SCAN")
    assert one.environment == other.environment == "sevennet"
    assert one.widths == {"backbone": 128, "last": 64}
    assert one.fingerprint != other.fingerprint  # one checkpoint, two modalities
    assert not list(tmp_path.iterdir())


def test_the_models_name_environments_that_exist():
    named = {entry.get("environment") for entry in list_models().values()} - {None}
    assert named == {path.stem for path in (DATA / "environments").glob("*.txt")}


def test_a_command_ends_where_nobody_listens_any_more():
    """An error on this side ends the process on the other."""
    seen = []

    def see(line):
        seen.append(int(line))
        raise KeyboardInterrupt

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        environments.failure([sys.executable, "-c", code], see)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
    assert (
        environments.failure([sys.executable, "-c", "print('last'); exit(3)"], seen.append)
        == "last"
    )
    assert environments.failure([sys.executable, "-c", "exit(3)"], seen.append) == "no word"
    assert environments.failure([sys.executable, "-c", "print('fine')"], seen.append) == ""
