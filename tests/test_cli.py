"""The command line, as a user types it."""

import io
import json
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from ase.io import write
from skmatter.metrics import global_reconstruction_error as skmatter_gfre

import umlip_latents
from umlip_latents import (
    Features,
    compare,
    cumulant_features,
    list_datasets,
    list_models,
    load_model,
    load_structures,
    split_atoms,
)
from umlip_latents.cli import main
from umlip_latents.resources import InputError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two feature files of the same structures."""
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "some.xyz", load_structures("embedded")[::30], format="extxyz")
    for model in ("chgnet-0.3.0", "mini-mace-mptrj"):
        command = ["extract", "--model", model, "--layer", "last"]
        command += ["--structures", str(folder / "some.xyz")]
        assert main([*command, "--output", str(folder / f"{model}.npz")]) == 0
    return folder


def test_models_and_datasets_are_listed(capsys):
    assert main(["models", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == list(list_models())
    assert shown["chgnet-0.3.0"]["widths"] == {"backbone": 64, "last": 64}
    assert main(["datasets", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(list_datasets())
    assert main(["models"]) == 0
    assert main(["datasets"]) == 0
    assert "alexandria-random-1k" in capsys.readouterr().out


def test_extract_keeps_its_contract(files):
    structures = load_structures(files / "some.xyz")
    with np.load(files / "chgnet-0.3.0.npz") as f:
        assert f["features"].shape == (sum(map(len, structures)), 64)
        assert (f["n_atoms"] == [len(a) for a in structures]).all()
        assert (f["numbers"] == np.concatenate([a.numbers for a in structures])).all()
        assert (f["kept"] == np.arange(len(structures))).all()


def test_extract_fills_a_store_and_needs_no_file_beside_it(files, capsys, tmp_path):
    command = ["extract", "--model", "element", "--structures", str(files / "some.xyz"), "--json"]
    assert main([*command, "--store", str(tmp_path / "store")]) == 0
    alone = json.loads(capsys.readouterr().out)
    [left] = tmp_path.iterdir()
    assert [path.name[:8] for path in left.iterdir()] == ["element-"]
    output = tmp_path / "a.npz"
    assert main([*command, "--store", str(left), "--output", str(output)]) == 0
    assert json.loads(capsys.readouterr().out) == alone | {"output": str(output)}
    assert output.is_file()


def test_compress_gives_cumulants(files, capsys):
    source, output = files / "chgnet-0.3.0.npz", files / "c.npz"
    assert main(["compress", str(source), "--order", "3", "--output", str(output), "--json"]) == 0
    shape = json.loads(capsys.readouterr().out)["shape"]
    with np.load(source) as f, np.load(output) as g:
        assert shape == [len(f["n_atoms"]), 3 * 64]
        expected = cumulant_features(f["features"], f["n_atoms"], 3)
        assert np.array_equal(g["features"], expected)


@pytest.mark.parametrize("split", ["atom", "structure"])
def test_compare_agrees_with_scikit_matter(files, capsys, split):
    paths = [str(files / f"{m}.npz") for m in ("chgnet-0.3.0", "mini-mace-mptrj")]
    options = ["--split", split, "--folds", "atom", "--n-test", "40", "--seed", "3"]
    assert main(["compare", *paths, *options, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["names"] == ["chgnet-0.3.0", "mini-mace-mptrj"]
    assert shown["n_test"] == 40
    with np.load(paths[0]) as f, np.load(paths[1]) as g:
        x, y = f["features"].astype(float), g["features"].astype(float)
        train, test = split_atoms(f["n_atoms"], 40, by=split, seed=3)
    expected = skmatter_gfre(x, y, train_idx=train, test_idx=test)
    assert shown["gfre"][0][1] == pytest.approx(expected, abs=1e-6)
    assert {"versions", "commit"} <= set(shown["provenance"])
    assert all(len(digest) == 64 for digest in shown["files_sha256"].values())


def test_one_number_for_one_cell(files, capsys):
    names = ("chgnet-0.3.0", "mini-mace-mptrj")
    paths = [files / f"{m}.npz" for m in names]
    options = {
        "metrics": ("gfre", "lfre", "cka", "imbalance"),
        "by": "structure",
        "n_splits": 3,
        "n_test": 40,
    }
    found = compare({path.stem: Features.load(path) for path in paths}, n_bootstrap=20, **options)
    table = pd.read_csv(io.StringIO(found.table.to_csv(index=False)), float_precision="round_trip")
    command = ["compare", *map(str, paths), "--metric", "gfre", "--metric", "lfre"]
    command += ["--metric", "cka", "--metric", "imbalance"]
    command += ["--splits", "3", "--n-test", "40", "--bootstrap", "20"]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    for metric in options["metrics"]:
        assert np.array_equal(np.array(shown[metric], float), found.matrix(metric), equal_nan=True)
        cells = pd.DataFrame(shown["intervals"][metric]).set_index(["source", "target"])
        rows = table[table["metric"] == metric].set_index(["source", "target"])
        matrix = found.matrix(metric)
        assert len(cells) == len(rows) > 0
        for (source, target), cell in cells.iterrows():
            assert cell["value"] == matrix.loc[source, target] == rows["error"][source, target]
            assert cell["low"] == rows["low"][source, target]
            assert cell["high"] == rows["high"][source, target]
            assert cell["low"] <= cell["high"]
    assert (shown["split"], shown["splits"], shown["bootstrap"]) == ("structure", 3, 20)
    assert (shown["seed"], shown["folds"], shown["within_element"]) == (0, "group", False)
    assert shown["n_test"] == 40
    assert shown["left_out"] == found.left_out
    assert main(command) == 0
    assert "mini-mace-mptrj" in capsys.readouterr().out


def test_compare_passes_its_options_on(files, capsys, monkeypatch):
    def enough(features, **options):
        raise InputError(f"{sorted(features)} {sorted(options.items())}")

    monkeypatch.setattr("umlip_latents.comparing.compare", enough)
    command = ["compare", str(files / "chgnet-0.3.0.npz"), str(files / "mini-mace-mptrj.npz")]
    command += ["--split", "system", "--folds", "group", "--within-element", "--seed", "5"]
    assert main([*command, "--metric", "lfre"]) == 1
    shown = capsys.readouterr().err
    assert "['chgnet-0.3.0', 'mini-mace-mptrj']" in shown
    for option in (("by", "system"), ("folds", "group"), ("within_element", True), ("seed", 5)):
        assert str(option) in shown
    assert str(("metrics", ("lfre",))) in shown
    assert str(("n_test", None)) in shown


def test_json_is_all_that_reaches_the_standard_output(capsys, monkeypatch):
    def chatty(_):
        print("loading")
        return {"a": {"path": "a.xyz", "licence": "x", "description": "y"}}

    monkeypatch.setattr("umlip_latents.cli.registry", chatty)
    assert main(["datasets", "--json"]) == 0
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)) == ["a"]
    assert "loading" in shown.err


def test_a_refused_structure_is_named_and_left_out(tmp_path, capsys, crystals, lonely):
    write(tmp_path / "s.xyz", [crystals[0], lonely], format="extxyz")
    command = ["extract", "--model", "chgnet-0.3.0", "--structures", str(tmp_path / "s.xyz")]
    assert main([*command, "--output", str(tmp_path / "f.npz"), "--json"]) == 0
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)["dropped"]) == ["1"]
    assert "left out structure 1 (ClNa2)" in shown.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["extract", "--model", "nothing", "--structures", "embedded"], "nothing: no such file"),
        (["extract", "--model", "element", "--structures", "gone.xyz"], "gone.xyz: no such file"),
        (["compress", "gone.npz"], "gone.npz"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(tmp_path, capsys, command, message):
    output = tmp_path / "out.npz"
    assert main([*command, "--output", str(output)]) == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith("umlip-latents: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_compare_refuses_what_cannot_be_compared(files, capsys, tmp_path):
    one = str(files / "chgnet-0.3.0.npz")
    assert main(["compare", one]) == 1
    assert "at least two" in capsys.readouterr().err
    with np.load(one) as f:
        arrays = dict(f)
    arrays["numbers"] = arrays["numbers"][::-1]
    np.savez(tmp_path / "other.npz", **arrays)
    assert main(["compare", one, str(tmp_path / "other.npz")]) == 1
    assert "same structures" in capsys.readouterr().err
    assert main(["compare", one, one]) == 1
    assert "one and the same" in capsys.readouterr().err
    other = str(files / "mini-mace-mptrj.npz")
    assert main(["compare", one, other, "--n-test", "100000"]) == 1
    assert "n_test 100000" in capsys.readouterr().err


def test_compare_extracts_models_and_draws_the_heat_map(files, capsys, tmp_path):
    structures = str(files / "some.xyz")
    command = ["compare", str(files / "chgnet-0.3.0.npz"), "--model", "element"]
    command += ["--structures", structures, "--layer", "last", "--n-test", "40"]
    assert main([*command, "--figure", str(tmp_path / "heat.svg"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["names"] == ["chgnet-0.3.0", "element"]
    assert list(shown["models"].values()) == [load_model("element").fingerprint]
    text = (tmp_path / "heat.svg").read_text()
    assert "<svg" in text
    assert "GFRE" in text
    assert main([*command[:4], "--layer", "last"]) == 1
    assert "needs --structures" in capsys.readouterr().err
    assert main([*command, "--figure", str(tmp_path / "heat.doc")]) == 1
    assert "heat.doc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["extract", "--model", "element"], "--structures"),
        (["extract", "--model", "element", "--structures", "embedded"], "--output, --store, or"),
        (["compare", "--metric", "best"], "best"),
        (["environments", "--make", "a", "--remove", "b"], "exclude each other"),
        (["dance"], "dance"),
    ],
)
def test_misuse_exits_with_status_2(capsys, command, message):
    assert main(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["--help", "--version", "compare --help", "models", "datasets"])
def test_what_only_lists_imports_nothing_heavy(typed):
    code = (
        "import sys; from umlip_latents.cli import main; status = main(sys.argv[1:])\n"
        "heavy = {'torch', 'sklearn', 'pandas', 'ase', 'numpy', 'scipy', 'matplotlib', 'zarr'}\n"
        "sys.exit(status or ' '.join(heavy & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *typed.split()], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_help_comes_at_once():
    def fastest(*command):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest("-m", "umlip_latents", "--help") < 20 * fastest("-c", "pass")


def test_every_name_of_the_package_is_there():
    assert {*umlip_latents.__all__} < {*dir(umlip_latents)}
    for name in umlip_latents.__all__:
        assert getattr(umlip_latents, name).__module__.startswith("umlip_latents")
    assert umlip_latents.__version__ == version("umlip-latents")
    with pytest.raises(AttributeError, match="no attribute 'comparre'"):
        _ = umlip_latents.comparre
    with pytest.raises(ImportError):
        exec("from umlip_latents import comparre")


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert version("umlip-latents") in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0, 0.1, 0.5, 1.5])
def test_an_interrupt_is_one_line_at_any_moment(tmp_path, seconds):
    code = "import sys; from umlip_latents.__main__ import main; print('here', flush=True)\n"
    code += "sys.exit(main())"  # as the installed command does, once Python has started
    command = [sys.executable, "-c", code, "extract", "--model", "mini-mace-mptrj"]
    command += ["--structures", "embedded", "--output", str(tmp_path / "o.npz")]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell lets what it runs in the background, as these tests may be, ignore Ctrl-C
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stdout.readline() == "here\n"
    time.sleep(0.01 + seconds)
    run.send_signal(signal.SIGINT)
    shown = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "Traceback" not in shown
    assert shown.splitlines()[-1] == "umlip-latents: interrupted."
    assert not (tmp_path / "o.npz").exists()


def test_a_reader_who_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "umlip_latents", "models", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()


def test_the_status_reaches_the_shell():
    command = [sys.executable, "-m", "umlip_latents"]
    command += ["compress", "gone.npz", "--output", "x.npz"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("umlip-latents: gone.npz")
