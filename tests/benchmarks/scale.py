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
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from dask.distributed import Client, LocalCluster
from run import peak, seconds  # beside this file

from umlip_latents import FeatureBlocks, distributed, load_model, load_structures, split_atoms
from umlip_latents.features import common_structures
from umlip_latents.provenance import provenance
from umlip_latents.resources import DATA, write_whole

MODELS = ("mini-mace-mptrj", "chgnet-0.3.0")
LAYER = "last"
N_TEST, N_LOCAL = 100_000, 1_000  # atoms
N_WORKERS = 2


def many_atoms(n_atoms: int) -> list[Atoms]:
    """Copies of the sample's structures, every one rattled by 0.05 angstrom on its own."""
    rng, found = np.random.default_rng(0), []
    for atoms in cycle(load_structures("mptrj-random-1k")):
        if n_atoms <= 0:
            return found
        copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.positions += rng.normal(0, 0.05, copy.positions.shape)
        found.append(copy)
        n_atoms -= len(copy)


class Watch(threading.Thread):
    """Looks every second at the memory of all processes, and kills one worker when it is told to.

    Attributes
    ----------
    peaks
        Process to MiB.
    kill_at
        Number of blocks in the store after which a worker is killed.
    """

    def __init__(self, client: Client, store: Path, kill_at: int) -> None:
        super().__init__(daemon=True)
        self.client, self.store, self.kill_at = client, store, kill_at
        self.peaks: dict[int, float] = {}
        self.killed = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(1):
            pids = self.look()
            if not self.killed and len([*self.store.glob("*/block-*")]) >= self.kill_at:
                self.killed = pids[0]
                os.kill(self.killed, signal.SIGKILL)

    def look(self) -> list[int]:
        """Note the memory of all processes; gives the workers'."""
        pids = [*self.client.run(os.getpid).values()]
        for pid in (*pids, os.getpid()):
            with suppress(OSError):
                self.peaks[pid] = peak(pid)
        return pids

    def largest(self) -> tuple[float, float]:
        """Largest memory of a worker, and of this process, until now."""
        self.look()
        here = os.getpid()
        return max(mib for pid, mib in self.peaks.items() if pid != here), self.peaks[here]


def on_disk(store: Path, n_atoms: int) -> list[tuple]:
    """Of each model and layer the columns, the bytes and the bytes per atom."""
    rows = []
    for name in MODELS:
        (folder,) = store.glob(f"{name}-*.zarr")
        for layer, width in load_model(name).widths.items():
            files = folder.glob(f"block-*/{layer}/**/*")
            size = sum(path.stat().st_size for path in files if path.is_file())
            rows.append((name, layer, width, size, size / n_atoms))
    return rows


def main() -> None:
    """Run it, print the figures, write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=DATA / "reference-results/scale.json")
    arguments = parser.parse_args()
    structures = many_atoms(arguments.atoms)
    steps, memory, features = {}, {}, {}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        store, work = Path(folder), (client, structures)
        watch = Watch(client, store, kill_at=len(structures) // 512)
        watch.start()

        def step(name: str, function: Callable, *work: Any, **options: Any) -> Any:
            steps[name], result = seconds(function, *work, **options)
            memory[name] = watch.largest()
            return result

        for name in MODELS:
            extraction = f"extraction, {name}", distributed.extract_features, *work, name, LAYER
            features[name] = step(*extraction, store=store)
        blocks = FeatureBlocks(structures, MODELS, LAYER, store)
        kept = np.concatenate(blocks.n_atoms())
        n_atoms = int(kept.sum())
        owner = np.repeat(np.arange(len(kept)), kept)
        train, test = split_atoms(kept, min(N_TEST, n_atoms // 10), by="structure")
        parts = client, blocks, train, test
        gfre = step("streaming GFRE, both ways", distributed.streaming_gfre, *parts, groups=owner)
        common = common_structures([*features.values()])
        tables = {part.model: part.features for part in common}
        some = np.random.default_rng(0).choice(test, min(N_LOCAL, len(test)), replace=False)
        words, parts = f"LFRE of {len(some):,} atoms, both ways", (client, tables, train, some)
        lfre = step(words, distributed.local_matrix, *parts, groups=owner)
        watch.over.set()
        watch.join()
        disk = on_disk(store, n_atoms)
        files = {
            name: sum(path.is_file() for path in store.glob(f"{name}-*/**/*")) for name in MODELS
        }
    per_atom = {name: sum(row[4] for row in disk if row[0] == name) for name in MODELS}
    hours = {  # of what every atom takes part in
        step: N_WORKERS * took / 3600 * 1e9 / n_atoms
        for step, took in steps.items()
        if not step.startswith("LFRE")
    }
    cost = [
        (name, f"{hours[f'extraction, {name}']:,.0f}", f"{per_atom[name] / 1000:.2f}",
         f"{next(row[4] for row in disk if row[:2] == (name, LAYER)) / 1000:.2f}",
         f"{files[name] * 1e9 / n_atoms / 1e6:.1f}")
        for name in MODELS
    ]  # fmt: skip
    streaming = next(step for step in steps if step.startswith("streaming"))
    cost.append((streaming, f"{hours[streaming]:,.1f}", "-", "-", "-"))
    sections = [
        {
            "title": f"{len(structures):,} structures, {n_atoms:,} atoms that both models accept, "
            f"{N_WORKERS} workers of one thread, {int(bool(watch.killed))} of them killed on the "
            "way; largest memory of a worker, and of the caller, which has the structures and one "
            "layer of each model, from the start to the end of the step",
            "header": ["step", "seconds", "atoms per second and worker", "MiB of a worker",
                       "MiB of the caller"],
            "rows": [
                (name, f"{took:.0f}",
                 f"{n_atoms / took / N_WORKERS:,.0f}" if name in hours else "-",
                 *(f"{mib:,.0f}" for mib in memory[name]))
                for name, took in steps.items()
            ],
        },
        {
            "title": "What lies on disk",
            "header": ["model", "layer", "columns", "bytes per atom", "bytes per number"],
            "rows": [
                (name, layer, width, f"{each:.0f}", f"{each / width:.2f}")
                for name, layer, width, _, each in disk
            ],
        },
        {
            "title": "A thousand times as many: 10⁹ atoms",
            "header": ["what", "core hours", "TB, all layers", f"TB, {LAYER} layer alone",
                       "million files"],
            "rows": cost,
        },
    ]  # fmt: skip
    machine = {"cores": os.cpu_count(), "torch_threads": 1}
    content = {"provenance": provenance() | machine, "sections": sections}
    errors = {"gfre": gfre.to_dict(), "lfre": lfre.to_dict()}
    write_whole(arguments.output, json.dumps(content | errors, indent=1) + "\n")
    for section in sections:
        table = pd.DataFrame(section["rows"], columns=section["header"])
        print(f"\n{section['title']}\n\n{table.to_markdown(index=False)}")
    print(f"\nGFRE\n{gfre}\n\nLFRE\n{lfre}")


if __name__ == "__main__":
    main()
