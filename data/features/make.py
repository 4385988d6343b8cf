"""Extract anew all features that ship, and compare them with those that do: `make features`.

It needs the checkpoints and the structures, downloaded or in the folder UMLIP_LATENTS_DATA, and
makes the environments of the families. What is extracted stays in `_build/features`, so that an
interrupted run goes on. `--write` replaces what ships; `--only PART` takes the models whose name
has PART in it.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from umlip_latents import (
    InputError,
    extract_features,
    list_models,
    load_structures,
    published_models,
)
from umlip_latents.features.shipped import read_shipped, shipped_file, write_shipped
from umlip_latents.features.table import Features
from umlip_latents.resources import ensure_dir, provenance, registry, write_file
from umlip_latents.structures.tables import atom_table, structure_table

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
    """Largest difference, in units of each column's standard deviation; infinite if they differ."""
    same = new.structures == old.structures and np.array_equal(new.kept, old.kept)
    if not same or new.features.shape != old.features.shape:
        return np.inf
    spread = new.features.std(axis=0, dtype=np.float64)
    return float(
        (np.abs(new.features - old.features) / (np.abs(new.features) + spread + 1e-30)).max()
    )


def main() -> int:
    """Extract, compare, write; returns how many differ or cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
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
