"""Kill commands at every file event and at random moments, fill the disk, start many at once.

``tests/faults.py [--sample] [SCENARIO ...]``: each trial forks a process in which everything is
imported, breaks it, runs the same command to its end in another one, and compares what is there
with what an unbroken run leaves. Kills come right before an event and right after it. The exit
status is 0 if nothing is corrupt, nothing refused, nothing left over, and no start has failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from trials import Scenario, State, Trials, contents, digest, names

from umlip_latents import environments, extract_features, extraction, load_model
from umlip_latents.resources import DATA


def extract(model: Any, structures: list, out: Path, number: int = 0) -> None:
    """Features with a store, in blocks of two structures."""
    extraction.BLOCK = 2
    found = extract_features(structures, model, "last", store=out / "store", progress=False)
    found.save(out / f"{number}.npz")


def command(*arguments: str) -> int:
    """A command of the command line."""
    from umlip_latents.cli import main

    return main(list(arguments))


def fine_tune(model: Any, parts: tuple, out: Path) -> None:
    """Two epochs."""
    from umlip_latents.finetuning import fine_tune

    options = {"cache": out, "epochs": 2, "batch_size": 1}
    fine_tune(model, *parts, "heads fine-tuning", **options)


def labelled(cells: list) -> list:
    """Copies with labels that are no one's."""
    rng = np.random.default_rng(1)
    found = []
    for i, cell in enumerate(cells):
        atoms = cell.copy()
        labels = {"energy": -3.0 * len(atoms), "forces": rng.normal(size=(len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, **labels, stress=rng.normal(0, 0.01, 6))
        atoms.info["origin"] = i
        found.append(atoms)
    return found


def tiny_recipe(folder: Path, structures: list) -> Path:
    """A recipe of two short epochs on a handful of structures."""
    write(folder / "data.xyz", structures)
    card = json.loads((DATA / "checkpoints" / "mini-mace-mptrj.json").read_text())
    changes = {"num_channels": 2, "max_num_epochs": 2, "E0s": "average", "r_max": 3.0}
    recipe = {
        "name": "tiny",
        "description": "tiny",
        "datasets": [str(folder / "data.xyz")],
        "group": "origin",
        "held_out": 2,
        "validation": 1,
        "split_seed": 0,
        "mace": card["recipe"]["mace"] | changes | {"batch_size": 2},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder / "recipe.json"


def make_tiny_environment(requirements: Path, out: Path) -> None:
    """An environment of one package."""
    os.environ["XDG_CACHE_HOME"] = str(out)
    environments.REQUIREMENTS = requirements
    environments.make_environment("tiny")
    assert environments.list_environments() == {"tiny": "ready"}


def tiny_requirements(folder: Path) -> Path:
    """Requirements of one package, which lies beside them."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.test_environments import SHADOWED, write_wheel

    folder.mkdir()
    write_wheel(folder, "999.0")
    text = f"--no-index\n--find-links {folder}\n{SHADOWED}==999.0\n"
    (folder / "tiny.txt").write_text(text)
    return folder


def pages(folder: Path) -> State:
    """The pages of a book."""
    return {path.name: "" for path in (folder / "html").rglob("*.html")}


def tuned(out: Path) -> State:
    """The files of a fine-tuning but for the optimizer's moments, of no use to a finished one."""
    return {name: value for name, value in contents(out).items() if "optimizer-" not in name}


def trained(out: Path) -> State:
    """The files that a training was asked for."""
    return {path.name: digest(path) for path in sorted(out.glob("tiny.*")) if path.is_file()}


def scenarios(inputs: Path) -> dict[str, Scenario]:
    """Every command that writes, by name."""
    cells = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64), bulk("Si"), bulk("Ti"), bulk("Li")]
    rng = np.random.default_rng(0)
    for cell in cells:
        cell.positions += rng.normal(0, 0.1, cell.positions.shape)
    many = [cells[i].repeat((1, 1, 1 + i % 3)) for i in rng.integers(len(cells), size=40)]
    chgnet = load_model("chgnet-0.3.0")
    files = [inputs / f"{name}.npz" for name in ("one", "other")]
    for file, model in zip(files, (chgnet, load_model("element")), strict=True):
        extract_features(many, model, "last", progress=False).save(file)
    compare = ("compare", *map(str, files), "--n-test", "10", "--figure")
    frames = labelled(many)
    parts = frames[:2], frames[-2:]
    recipe = tiny_recipe(inputs, frames[:12])
    requirements = tiny_requirements(inputs / "requirements")
    training = ("mace.cli.run_train", "umlip_latents.training")
    tuning = ("chgnet.trainer.trainer", "umlip_latents.finetuning")
    return {
        "extract-element": Scenario(partial(extract, load_model("element"), cells), 50, contents),
        # the events are those of the element
        "extract-chgnet": Scenario(partial(extract, chgnet, cells), 20, contents, most=40),
        "compress": Scenario(
            lambda out: command("compress", str(files[0]), "--output", str(out / "c.npz")),
            10,
            contents,
        ),
        "compare": Scenario(
            lambda out: command(*compare, str(out / "heat.png")),
            10,
            contents,
            ("umlip_latents.comparing", "umlip_latents.results", "matplotlib.backends.backend_agg"),
        ),
        "fine-tune": Scenario(partial(fine_tune, chgnet, parts), 10, tuned, tuning),
        "train": Scenario(
            lambda out: command("train", str(recipe), "--output", str(out / "tiny.safetensors")),
            50,
            trained,
            training,
            most=20,  # those of mace-torch's own files are many, and all alike
        ),
        "environment": Scenario(partial(make_tiny_environment, requirements), 10, names),
        # a page takes half a minute
        "book": Scenario(
            lambda out: command("book", "--profile=quick", "--only=00", f"--output={out}"),
            *(4, pages),
            ("umlip_latents.book",),
            most=5,
        ),
    }


def try_out(name: str, scenario: Scenario, root: Path, sample: bool) -> bool:
    """Break one scenario in every way, or in a few of each; whether it keeps its promise."""
    for module in scenario.imports:
        with contextlib.redirect_stdout(io.StringIO()):
            __import__(module)
    rng = random.Random(0)
    trials = Trials(name, scenario, root)
    trials.unbroken()
    most = min(6 if sample else scenario.most, trials.events)
    trials.kill_at_events(rng.sample(range(1, trials.events + 1), most))
    trials.kill_at_moments(3 if sample else scenario.timed, rng)
    if name not in ("environment", "book"):
        largest = max(p.stat().st_size for p in trials.folder.rglob("*") if p.is_file())
        trials.no_room(
            [0, largest // 2] if sample else [0, 1, 100, 1000, largest // 2, largest - 1]
        )
    if name == "extract-element":
        trials.together([8, 5] if sample else [2, 3, 4, 5, 6, 7, 8] * 5)
        trials.read_only()
        if os.geteuid() == 0 and ctypes.CDLL(None).unshare(0) == 0:
            pages = range(4096, 40 * 4096, 16 * 4096) if sample else range(4096, 60 * 4096, 4096)
            trials.full_disk(pages)
    return trials.passed()


def main(arguments: list[str]) -> int:
    """Try out the scenarios that are named, or all."""
    sample = "--sample" in arguments
    wanted = [a for a in arguments if a != "--sample"]
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode, tqdm.tqdm.monitor_interval = True, 0
    good = True
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        inputs = root / "inputs"
        inputs.mkdir()
        for name, scenario in scenarios(inputs).items():
            if not wanted or name in wanted:
                (root / name / "tmp").mkdir(parents=True)
                start = time.monotonic()
                good &= try_out(name, scenario, root / name, sample)
                print(f"    {time.monotonic() - start:.0f} s", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
