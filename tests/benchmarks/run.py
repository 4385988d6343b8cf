"""Time the package against scikit-matter and the libraries' own extraction: `make bench`.

Writes ``data/reference-results/benchmarks.json``, which the book's page on benchmarks quotes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from mace.calculators import MACECalculator
from pymatgen.io.ase import AseAtomsAdaptor
from skmatter.metrics import global_reconstruction_error as skmatter_gfre
from skmatter.metrics import local_reconstruction_error as skmatter_lfre

from umlip_latents import (
    Features,
    FitOptions,
    compare,
    extract_features,
    load_model,
    load_structures,
    reconstruction_matrix,
    split_atoms,
)
from umlip_latents.features.table import common_structures
from umlip_latents.resources import DATA, InputError, provenance, write_file

CHGNETS = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan")
EXTRACTED = ("chgnet-0.3.0", "mini-mace-mptrj")
WIDTHS = (64, 128, 256, 128, 64, 128, 128)  # of published models
LOCAL = 64  # neighbours of a local map
SMALL = 16  # structures that no worker is worth starting for
BUSY = (0, 1, 2)  # processes beside ours

Section = dict[str, object]


def seconds(work: Callable, *args, **kwargs) -> tuple[float, object]:
    """Wall time, and what the work returned."""
    start = time.perf_counter()
    result = work(*args, **kwargs)
    return time.perf_counter() - start, result


def median_seconds(work: Callable, *args, repeats: int = 3, **kwargs) -> float:
    """The median of some runs, after one that does not count."""
    took = [seconds(work, *args, **kwargs)[0] for _ in range(repeats + 1)]
    return float(np.median(took[1:]))


def peak(pid: int) -> float:
    """Largest memory that a process has had, in MiB.

    getrusage would report the parent's where that is higher.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


@contextmanager
def busy(n: int) -> Iterator[None]:
    """So many processes that each keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    time.sleep(1 if n else 0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def checkpoint_tables(dataset: str, every: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Both layers of three CHGNets, and the atoms of each structure."""
    structures, tables = load_structures(dataset)[::every], {}
    for layer in ("backbone", "last"):
        found = [extract_features(structures, name, layer, progress=False) for name in CHGNETS]
        for features in common_structures(found):
            tables[f"{features.model} {layer}"] = features.features
    return tables, common_structures(found)[0].n_atoms


def against_scikit_matter(tables: Mapping[str, np.ndarray], split, n_pairs: int) -> Section:
    """Complete matrices beside busy processes, and some of their pairs by scikit-matter."""
    rows, pairs = [], list(product(tables, tables))
    some = pairs[:: max(1, len(pairs) // n_pairs)][:n_pairs]
    for metric, theirs, how in (
        ("gfre", skmatter_gfre, {}),
        ("lfre", skmatter_lfre, {"n_local_points": LOCAL}),
    ):
        atoms = split if metric == "gfre" else (split[0], split[1][::10])
        work = partial(reconstruction_matrix, tables, *atoms, metric, **how)
        took = []
        for n in BUSY:
            with busy(n):
                took.append(median_seconds(work))
        difference, known, expected = 0.0, 0.0, work()
        jobs = how | ({"n_jobs": -1} if how else {})
        for source, target in some:
            x, y = (tables[name].astype(np.float64) for name in (source, target))
            split_of = {"train_idx": atoms[0], "test_idx": atoms[1]}
            one, error = seconds(theirs, x, y, **jobs, **split_of)
            known += one * len(pairs) / len(some)
            difference = max(difference, abs(error - expected.loc[source, target]))
        cells = [f"{t:.2f}" for t in took] + [f"{t / took[0]:.1f}" for t in took[1:]]
        rows.append(
            (metric.upper(), *cells, f"{known:.1f}", f"{known / took[0]:.0f}", f"{difference:.0e}")
        )
    beside = [f"beside {n} busy, {unit}" for unit in ("s", "ratio") for n in BUSY[1:]]
    return {
        "title": f"Matrices of {len(tables)} tables, alone and beside busy processes, against "
        f"scikit-matter ({len(some)} of {len(pairs)} pairs timed, `n_jobs=-1`)",
        "header": ["metric", "here, s", *beside, "scikit-matter, s", "ratio", "largest difference"],
        "rows": rows,
    }


def many_models(n_models: int, n_structures: int) -> Section:
    """All pairs of made-up models of published widths, five splits by structure, intervals."""
    rng = np.random.default_rng(0)
    n_atoms = np.full(n_structures, 8) - (np.arange(n_structures) % 3 == 0)
    hidden = rng.normal(size=(n_atoms.sum(), 30))
    about = n_atoms, np.full(n_atoms.sum(), 14), np.arange(n_structures)
    features = {}
    for i in range(n_models):
        width = WIDTHS[i % len(WIDTHS)]
        x = np.tanh(hidden @ rng.normal(size=(30, width)) / 5)
        x += rng.normal(size=x.shape) / 20
        features[f"model {i}"] = Features(x.astype(np.float32), *about)
    took = {
        n_jobs: seconds(compare, features, n_splits=5, options=FitOptions(n_jobs=n_jobs))[0]
        for n_jobs in (1, None)
    }
    cells = (f"{took[1]:.1f}", f"{took[None]:.1f}", f"{took[1] / took[None]:.2f}")
    return {
        "title": f"GFRE of all pairs of {n_models} models, {n_atoms.sum():,} atoms, five splits "
        "with intervals",
        "header": ["models", "pairs", "one job, s", "all cores, s", "ratio"],
        "rows": [(n_models, n_models**2, *cells)],
    }


def by_workers(structures: list) -> Section:
    """Extraction by one and by two processes; the start of the second ones is told apart."""
    rows = []
    for name in EXTRACTED:
        model = load_model(name)
        work = partial(extract_features, model=name, progress=False)
        work(structures[:SMALL])  # warm up
        joblib.externals.loky.get_reusable_executor().shutdown()
        first = seconds(work, structures, workers=2)[0]
        two = median_seconds(work, structures, workers=2, repeats=1)
        one = median_seconds(work, structures, workers=1, repeats=1)
        small = [median_seconds(work, structures[:SMALL], workers=n) for n in (1, None)]
        cells = (f"{t:.1f}" for t in (one, first, two))
        few = (f"{t:.2f}" for t in small)
        rows.append((model.name, len(structures), *cells, f"{one / two:.2f}", *few))
    return {
        "title": "Extraction by one process, and by two",
        "header": ["model", "structures", "one, s", "two, with their start, s", "two, s", "ratio",
                   f"{SMALL} structures, one, s", "by default, s"],
        "rows": rows,
    }  # fmt: skip


def library_calls(name: str) -> dict[str, Callable]:
    """How the library of a model itself gets at features of a structure."""
    network = load_model(name).network
    if name.startswith("chgnet"):

        def predict(atoms, task):
            structure = AseAtomsAdaptor.get_structure(atoms)
            return network.predict_structure(structure, task=task, return_atom_feas=True)

        return {
            "`predict_structure(s, return_atom_feas=True)`": partial(predict, task="efsm"),
            "the same with `task='e'`": partial(predict, task="e"),
        }
    calculator = MACECalculator(models=[network], device="cpu", default_dtype="float32")
    return {"`MACECalculator.get_descriptors`": calculator.get_descriptors}


def against_the_libraries(structures: list) -> Section:
    """Extraction in batches, and one structure after the other as the model's library does it."""
    rows = []
    for name in EXTRACTED:
        extract = partial(extract_features, model=name, workers=1, progress=False)
        extract(structures[:3])  # warm up
        ours, found = seconds(extract, structures)
        for call, work in library_calls(name).items():
            work(structures[0])
            theirs, _ = seconds(lambda w: [w(structures[i]) for i in found.kept], work)  # noqa: B023
            cells = (f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}")
            rows.append((name, call, len(found.kept), *cells))
    return {
        "title": "Extraction against the libraries, one structure after the other",
        "header": ["model", "library's way", "structures", "here, s", "library, s", "ratio"],
        "rows": rows,
    }


def main() -> None:
    """Run every comparison, print the tables, write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="embedded", help="whose structures are extracted")
    parser.add_argument("--every", type=int, default=1, help="take every n-th of them")
    parser.add_argument("--pairs", type=int, default=12, help="pairs timed with scikit-matter")
    parser.add_argument("--models", type=int, default=21, help="of the largest comparison")
    parser.add_argument("--only", choices=("matrices", "models", "workers", "libraries"))
    parser.add_argument("--output", type=Path, default=DATA / "reference-results/benchmarks.json")
    given = parser.parse_args()
    structures = load_structures(given.dataset)[:: given.every]

    def matrices() -> Section:
        tables, n_atoms = checkpoint_tables(given.dataset, given.every)
        split = split_atoms(n_atoms, min(1000, n_atoms.sum() // 4))
        return against_scikit_matter(tables, split, given.pairs)

    sections = []
    for name, work in {
        "matrices": matrices,
        "models": partial(many_models, given.models, 1000 // given.every),
        "workers": partial(by_workers, structures),
        "libraries": partial(against_the_libraries, structures),
    }.items():
        if given.only in (None, name):
            sections.append(work())
            table = pd.DataFrame(sections[-1]["rows"], columns=sections[-1]["header"])
            print(f"\n{sections[-1]['title']}\n\n{table.to_markdown(index=False)}", flush=True)
    machine = {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}
    content = {"provenance": provenance() | machine, "sections": sections}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_file(given.output, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
