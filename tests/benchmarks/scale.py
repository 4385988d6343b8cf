"""A million real atoms through a local Dask cluster, one of its two workers killed on the way.

Repeated and rattled structures of a public sample go through extraction, store, streaming GFRE and
sampled LFRE. Writes ``data/reference-results/scale.json``, which the page on clusters quotes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from ase import Atoms
from dask.distributed import Client, LocalCluster
from run import peak, seconds  # beside this file

import umlip_latents as latents
from umlip_latents.features.table import common_structures
from umlip_latents.resources import DATA, provenance, write_file

MODELS = ("mini-mace-mptrj", "chgnet-0.3.0")
LAYER = "last"
N_TEST, N_LOCAL = 100_000, 1_000  # atoms
N_WORKERS = 2


def many_atoms(n_atoms: int) -> list[Atoms]:
    """Copies of the sample's structures, every one rattled by 0.05 angstrom on its own."""
    rng, found = np.random.default_rng(0), []
    for atoms in cycle(latents.load_structures("mptrj-random-1k")):
        if n_atoms <= 0:
            return found
        copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.positions += rng.normal(0, 0.05, copy.positions.shape)
        found.append(copy)
        n_atoms -= len(copy)


class Watch(threading.Thread):
    """Notes every second the memory of all processes in MiB, and kills one worker.

    Attributes
    ----------
    worker, caller
        Largest memory until now.
    killed
        Whether a worker has been killed: when so many blocks were in the store.
    """

    def __init__(self, client: Client, store: Path, n_blocks: int) -> None:
        super().__init__(daemon=True)
        self.client, self.store, self.n_blocks = client, store, n_blocks
        self.worker = self.caller = 0.0
        self.killed = False
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(1):
            self.caller = max(self.caller, peak(os.getpid()))
            pids = [*self.client.run(os.getpid).values()]
            for pid in pids:
                with suppress(OSError):
                    self.worker = max(self.worker, peak(pid))
            if not self.killed and len([*self.store.glob("*/block-*")]) >= self.n_blocks:
                os.kill(pids[0], signal.SIGKILL)
                self.killed = True


def run_steps(structures: list[Atoms], folder: Path) -> tuple[list[tuple], dict, int]:
    """Name, seconds and memory of each step, the errors, and the number of atoms."""
    local = {"n_workers": N_WORKERS, "threads_per_worker": 1, "dashboard_address": None}
    rows, features = [], {}
    with (
        LocalCluster(**local) as cluster,
        Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        watch = Watch(client, folder, len(structures) // 256)
        watch.start()

        def step(name, function, *arguments, **options):
            took, result = seconds(function, *arguments, **options)
            rows.append((name, took, watch.worker, watch.caller))
            return result

        for name in MODELS:
            what = structures, name, LAYER
            features[name] = step(
                f"extraction, {name}", latents.extract_features, *what, store=folder
            )
        blocks = latents.FeatureBlocks(structures, MODELS, LAYER, folder)
        n_atoms = np.concatenate(blocks.n_atoms())
        train, test = latents.split_atoms(n_atoms, min(N_TEST, n_atoms.sum() // 10), by="structure")
        folds = {"groups": np.repeat(np.arange(len(n_atoms)), n_atoms)}
        gfre = step(
            "streaming GFRE, both ways", latents.streaming_gfre, blocks, train, test, **folds
        )
        common = common_structures([*features.values()])
        tables = {part.model: part.features for part in common}
        some = np.random.default_rng(0).choice(test, min(N_LOCAL, len(test)), replace=False)
        name = f"LFRE of {len(some):,} atoms, both ways"
        lfre = step(name, latents.reconstruction_matrix, tables, train, some, "lfre", **folds)
        watch.over.set()
        watch.join()
        assert watch.killed
    return rows, {"gfre": gfre.to_dict(), "lfre": lfre.to_dict()}, int(n_atoms.sum())


def tables_of(steps: list[tuple], folder: Path, n_structures: int, n_atoms: int) -> list[dict]:
    """What the page shows: the run, what lies on disk, and a thousand times as much."""
    run, disk, cost = [], [], []
    for name, took, worker, caller in steps:
        rate = "-" if name.startswith("LFRE") else f"{n_atoms / took / N_WORKERS:,.0f}"
        run.append((name, f"{took:.0f}", rate, f"{worker:,.0f}", f"{caller:,.0f}"))
        hours = f"{N_WORKERS * took / 3600 * 1e9 / n_atoms:,.1f}"
        model = name.removeprefix("extraction, ")
        if model in MODELS:
            files = [*folder.glob(f"{model}-*/block-*")]
            size = sum(file.stat().st_size for file in files) / n_atoms
            disk.append((model, len(files), f"{size:.0f}"))
            million = f"{len(files) * 1e9 / n_atoms / 1e6:.1f}"
            cost.append((model, hours, f"{size / 1000:.2f}", million))
        elif rate != "-":
            cost.append((name, hours, "-", "-"))
    title = (
        f"{n_structures:,} structures, {n_atoms:,} atoms that both models accept, {N_WORKERS} "
        "workers of one thread, one of them killed on the way; largest memory of a worker, and of "
        "the caller, until the end of the step"
    )
    words = "seconds", "atoms per second and worker", "MiB of a worker", "MiB of the caller"
    headers = [("step", *words), ("model", "files", "bytes per atom, all layers")]
    headers.append(("what", "core hours", "TB, all layers", "million files"))
    titles = title, "What lies on disk", "A thousand times as many: 10⁹ atoms"
    sections = zip(titles, headers, (run, disk, cost), strict=True)
    return [{"title": t, "header": [*header], "rows": rows} for t, header, rows in sections]


def main() -> None:
    """Run it, print the figures, write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=DATA / "reference-results/scale.json")
    arguments = parser.parse_args()
    structures = many_atoms(arguments.atoms)
    with tempfile.TemporaryDirectory() as folder:
        steps, errors, n_atoms = run_steps(structures, Path(folder))
        sections = tables_of(steps, Path(folder), len(structures), n_atoms)
    machine = {"cores": os.cpu_count(), "torch_threads": 1}
    content = {"provenance": provenance() | machine, "sections": sections, **errors}
    write_file(arguments.output, json.dumps(content, indent=1) + "\n")
    for section in sections:
        table = pd.DataFrame(section["rows"], columns=section["header"])
        print(f"\n{section['title']}\n\n{table.to_markdown(index=False)}")
    print(errors)


if __name__ == "__main__":
    main()
