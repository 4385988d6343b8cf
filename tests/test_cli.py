"""The command line, as a user types it: what one command writes the next one reads."""

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
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import umlip_latents
from umlip_latents import Features, cumulant_features, list_datasets, list_models, load_structures
from umlip_latents.analysis.uncertainty import energy_errors, last_layer_uncertainty
from umlip_latents.cli import main
from umlip_latents.features.shipped import read_readout
from umlip_latents.resources import DATA

MODELS = ("chgnet-0.3.0", "mini-mace-mptrj")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files of features, by two commands, of the same structures."""
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "some.xyz", load_structures("embedded")[::30], format="extxyz")
    for model in MODELS:
        command = ["extract", "--model", model, "--layer", "last", "--device", "cpu"]
        command += ["--structures", str(folder / "some.xyz")]
        assert main([*command, "--output", str(folder / f"{model}.npz")]) == 0
    return folder


@pytest.fixture
def run(capsys):
    """Run a command that succeeds; what it prints with ``--json``."""

    def run(*command):
        assert main([*map(str, command), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_models_datasets_and_environments_are_listed(run, capsys):
    found = run("models")
    assert list(found) == list(list_models())
    assert found["chgnet-0.3.0"]["widths"] == {"backbone": 64, "last": 64}
    assert list(run("datasets")) == list(list_datasets())
    assert {*run("environments").values()} <= {"ready", "not made"}
    for command, word in (("models", "7net-0"), ("datasets", "alexandria-random-1k")):
        assert main([command]) == 0
        assert word in capsys.readouterr().out


def test_extract_writes_every_format_and_fills_a_store_that_the_next_run_reads(
    files, run, tmp_path
):
    structures = load_structures(files / "some.xyz")
    with np.load(files / "chgnet-0.3.0.npz") as f:  # the contract
        assert f["features"].shape == (sum(map(len, structures)), 64)
        assert (f["n_atoms"] == [len(a) for a in structures]).all()
        assert (f["numbers"] == np.concatenate([a.numbers for a in structures])).all()
        assert (f["kept"] == np.arange(len(structures))).all()
    command = ["extract", "--structures", files / "some.xyz", "--store", tmp_path / "store"]
    both = run(*command, "--model", "element", "--model", "chgnet-0.3.0")
    assert list(both) == ["element", "chgnet-0.3.0"]
    before = sorted((tmp_path / "store").rglob("*"))
    assert before
    again = run(*command, "--model", "element", "--output", tmp_path / "e.npz")
    assert again == {"element": both["element"]}
    assert sorted((tmp_path / "store").rglob("*")) == before
    x = Features.load(tmp_path / "e.npz")
    assert x.model == "element"
    for ending in ("extxyz", "csv"):
        run(*command, "--model", "element", "--output", tmp_path / f"e.{ending}")
    read = load_structures(tmp_path / "e.extxyz")
    assert np.array_equal(np.concatenate([a.arrays["features"] for a in read]), x.features)
    assert (tmp_path / "e.csv").read_text() == x.to_frame().to_csv()


def test_what_compress_writes_every_other_command_reads(files, run, tmp_path):
    for model in MODELS:
        source, output = files / f"{model}.npz", tmp_path / f"{model}.npz"
        shape = run("compress", source, "--order", 3, "--output", output)["shape"]
        with np.load(source) as f, np.load(output) as g:
            assert shape == [len(f["n_atoms"]), 3 * f["features"].shape[1]]
            expected = cumulant_features(f["features"], f["n_atoms"], 3)
            assert g["features"] == pytest.approx(expected, rel=1e-6)
    one, other = (tmp_path / f"{model}.npz" for model in MODELS)
    n = len(load_structures(files / "some.xyz"))
    found = run("compare", one, other, "--n-test", 8)
    assert 0 < found["gfre"][0][1] < 2
    assert found["n_structures"] == n
    assert len(run("novelty", one, one)["scores"]) == n
    assert len(run("select", one, "--n", 5)["chosen"]) == 5
    assert run("compress", one, "--order", 1, "--output", tmp_path / "c.npz")["shape"][0] == n


def test_uncertainty_takes_energies_or_their_errors(files, run, tmp_path):
    structures, last = load_structures(files / "some.xyz"), files / "mini-mace-mptrj.npz"
    for i, atoms in enumerate(structures):
        atoms.calc = SinglePointCalculator(atoms, energy=len(atoms) * np.sin(i))
    write(tmp_path / "e.xyz", structures, format="extxyz")
    f = Features.load(last)
    errors = energy_errors(f, structures, read_readout(f.model))
    pd.DataFrame({"structure": f.kept, "error": errors})[::-1].to_csv(tmp_path / "e.csv")
    sigma = last_layer_uncertainty(f, errors, f)
    for option, file in (("--structures", "e.xyz"), ("--errors", "e.csv")):
        found = run("uncertainty", last, last, option, tmp_path / file)
        assert [row["sigma"] for row in found["scores"]] == pytest.approx(sigma, rel=1e-5)


def test_compare_gives_and_draws_the_numbers_of_the_python_call(files, run, tmp_path):
    paths, metrics = [files / f"{MODELS[0]}.npz", tmp_path / f"{MODELS[0]}.npz"], ["gfre", "lfre"]
    paths[1].write_bytes((files / f"{MODELS[1]}.npz").read_bytes())  # of one name
    (tmp_path / "own.py").write_text("import math\ndef wide(x, y): return math.sqrt(x.shape[1])\n")
    options = ["--split", "atom", "--splits", 3, "--n-test", 40, "--seed", 3, "--bootstrap", 20]
    options += [word for metric in metrics for word in ("--metric", metric)]
    options += ["--metric", tmp_path / "own.py:wide", "--figure", tmp_path / "heat.svg"]
    shown = run("compare", *paths, *options)
    features = {str(path): Features.load(path) for path in paths}
    split = umlip_latents.Split("atom", n_test=40, seed=3)
    found = umlip_latents.compare(features, metrics, split=split, n_splits=3, n_bootstrap=20)
    for metric in metrics:
        assert np.array(shown[metric], float) == pytest.approx(found.matrix(metric), nan_ok=True)
    assert shown["wide"] == [[8, 8], [80**0.5] * 2]
    cells = [cell for cell in shown["table"] if cell["metric"] in metrics]
    for key in ("error", "low", "high"):
        assert [cell[key] for cell in cells] == pytest.approx(list(found.table[key]))
    settings = {"names": [*features], "split": "atom", "folds": "atom", "n_test": 40, "seed": 3}
    settings |= {"n_splits": 3, "n_bootstrap": 20}
    assert {key: shown[key] for key in settings} == settings
    assert {"versions", "commit", str(paths[0])} <= set(shown["provenance"])
    assert "<svg" in (tmp_path / "heat.svg").read_text()


def test_what_train_writes_extract_reads(files, run, tmp_path):
    recipe = json.loads((DATA / "checkpoints" / "mini-mace-mptrj.json").read_text())["recipe"]
    recipe |= {"name": "tiny", "datasets": ["li3ps4-gfn1"], "training": {"li3ps4-gfn1": 4}}
    recipe |= {"group": "origin", "held_out": 2, "validation": 1}
    recipe["mace"] |= {"num_channels": 2, "max_num_epochs": 1, "r_max": 3.0}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    output = tmp_path / "tiny.safetensors"
    errors = run("train", tmp_path / "recipe.json", "--output", output, "--device", "cpu")
    assert list(errors) == ["li3ps4-gfn1"]
    command = ["extract", "--model", output, "--structures", files / "some.xyz"]
    assert run(*command, "--store", tmp_path / "store")["tiny"]["shape"][1] == 2 * 2


def test_a_refused_structure_is_named_and_left_out(tmp_path, capsys, crystals, lonely):
    write(tmp_path / "s.xyz", [crystals[0], lonely], format="extxyz")
    command = ["extract", "--model", "chgnet-0.3.0", "--structures", str(tmp_path / "s.xyz")]
    assert main([*command, "--output", str(tmp_path / "f.npz"), "--json"]) == 0
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)["chgnet-0.3.0"]["dropped"]) == ["1"]  # and nothing else
    assert "left out structure 1 (ClNa2)" in shown.err


def test_what_only_lists_imports_nothing_heavy():
    code = (
        "import sys; from umlip_latents.cli import main\n"
        "status = sum(main([word]) for word in ('--help', '--version', 'models', 'datasets'))\n"
        "heavy = {'torch', 'sklearn', 'pandas', 'ase', 'numpy', 'scipy', 'matplotlib'}\n"
        "sys.exit(status or ' '.join(heavy & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert version("umlip-latents").encode() in done.stdout


def test_every_name_of_the_package_is_there():
    assert {*umlip_latents.__all__} == {*dir(umlip_latents)}
    for name in umlip_latents.__all__:
        assert getattr(umlip_latents, name).__module__.startswith("umlip_latents")
    assert umlip_latents.__version__ == version("umlip-latents")
    with pytest.raises(AttributeError, match="No umlip_latents attribute comparre"):
        _ = umlip_latents.comparre


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_an_interrupt_is_one_line(tmp_path):
    command = [sys.executable, "-m", "umlip_latents", "extract", "--model", "mini-mace-mptrj"]
    command += ["--structures", "embedded", "--store", str(tmp_path / "store")]
    # a shell lets what it runs in the background, as these tests may be, ignore Ctrl-C
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    run = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heed)
    while not list(tmp_path.rglob("*.npz")) and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    shown = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 130
    assert "Traceback" not in shown
    assert shown.splitlines()[-1] == "umlip-latents: interrupted."


def test_the_status_reaches_the_shell():
    command = [sys.executable, "-m", "umlip_latents", "select", "gone.npz"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 2
    assert b"'gone.npz' does not exist" in done.stderr
