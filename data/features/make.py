"""Extract anew all features that ship, and compare them with those that do: `make features`.

It needs the checkpoints and the structures, downloaded or in the folder UMLIP_LATENTS_DATA, and
makes the environments of the families. What is extracted stays in `_build/features`, so that an
interrupted run goes on. `--write` replaces what ships; `--only PART` takes the models whose name
has PART in it; `--readouts MODEL ...` writes nothing but how these read the energy off.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from umlip_latents import (
    InputError,
    extract_features,
    list_models,
    load_model,
    load_structures,
    published_models,
)
from umlip_latents.features.shipped import read_shipped, shipped_file, write_shipped
from umlip_latents.features.table import Features
from umlip_latents.models.environments import CURRENT, RemoteModel, make_environment
from umlip_latents.resources import atomic_write, ensure_dir, provenance, registry, write_file
from umlip_latents.structures.describe import atom_table, structure_table

READOUTS = Path(__file__).with_name("readouts.npz")
STORE = Path(__file__).parents[2] / "_build" / "features"
DATASETS = {"alexandria-random-1k": ("backbone", "last"), "embedded-third": ("backbone",)}
# the same function on another machine: half precision, and single precision of the network itself
TOLERANCE = 2e-3
# single precision where half moves an error of the panel by more than 0.002, and where all is
# ones and zeros
SINGLE = ("element",)


def models() -> list[str]:
    """Published checkpoints that run here, an untrained twin of each family, and baselines."""
    twins = [name for name in list_models() if name.endswith("-untrained-s0")]
    return [*published_models(), *twins, "mini-mace-mptrj", "soap", "element", "symmetry-functions"]


def deviation(new: Features, old: Features) -> float:
    """Largest difference over distance from the mean and spread; infinite if they do not fit."""
    same = new.structures == old.structures and np.array_equal(new.kept, old.kept)
    if not same or new.features.shape != old.features.shape:
        return np.inf
    x = new.features.astype(np.float64)
    scale = np.abs(x - x.mean(axis=0)) + x.std(axis=0) + 1e-30  # half precision is relative to this
    return float((np.abs(x - old.features) / scale).max())


def write_readouts(names: Iterable[str]) -> None:
    """Add the readouts of models to those that ship; each family's from its own environment."""
    with np.load(READOUTS) if READOUTS.is_file() else nullcontext({}) as data:
        found = dict(data)
    elsewhere = defaultdict(list)
    for name in names:
        model = load_model(name, device="cpu")
        if isinstance(model, RemoteModel):
            elsewhere[model.environment].append(name)
            continue
        try:
            weights, biases = model.energy_readout()
        except InputError as error:
            print(error, flush=True)
            continue
        parts = {f"{name}-weights": weights, f"{name}-biases": biases}
        found |= {part: np.asarray(x, np.float64) for part, x in parts.items()}
    with atomic_write(READOUTS) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **dict(sorted(found.items())))
    for environment, some in elsewhere.items():
        command = [make_environment(environment), __file__, "--readouts", *some]
        subprocess.run(command, env={**os.environ, CURRENT: environment}, check=True)


def main() -> int:
    """Extract, compare, write; returns how many differ or cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--readouts", nargs="+", metavar="MODEL")
    options = parser.parse_args()
    if options.readouts:
        write_readouts(options.readouts)
        return 0
    bad = 0
    for dataset, layers in DATASETS.items():
        entry, structures = registry("datasets")[dataset], load_structures(dataset)
        folder = ensure_dir(shipped_file(dataset, "", "").parent)
        if options.write and not options.only:
            table = structure_table(structures).to_csv(float_format="%.8g")
            write_file(folder / "structures.csv", table)
            atoms = atom_table(structures)
            atoms.to_csv(
                folder / "atoms.csv.gz", index=False, float_format="%.6g", compression=GZIP
            )
        for model in (name for name in models() if options.only in name):
            began = time.monotonic()
            for layer in layers:
                try:
                    new = extract_features(structures, model, layer, store=STORE)
                except InputError as error:
                    print(f"{dataset} {model}: {error}", flush=True)
                    bad += 1
                    break
                file, difference = shipped_file(dataset, model, layer), np.nan
                if file.is_file():
                    difference = deviation(new, read_shipped(dataset, model, layer))
                if options.write:
                    licences = [list_models()[model].get("licence"), entry["licence"]]
                    sources = [list_models()[model].get("citation"), entry["citation"]]
                    about = provenance() | {"licences": licences, "citations": sources}
                    write_shipped(file, new, about, half=model not in SINGLE)
                elif not difference < TOLERANCE:
                    bad += 1
                print(f"{dataset} {model} {layer}: {time.monotonic() - began:.0f} s, "
                      f"largest difference {difference:.1e}", flush=True)  # fmt: skip
    return bad


GZIP = {"method": "gzip", "mtime": 0}  # the same bytes every time

if __name__ == "__main__":
    sys.exit(min(main(), 1))
