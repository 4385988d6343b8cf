"""A million real atoms through a local Dask cluster, one of its two workers killed on the way.

Repeated and rattled structures of a public sample go through extraction, store, streaming GFRE and
sampled LFRE. Writes ``data/reference-results/scale.json``, which the page on clusters quotes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from dask.distributed import Client, LocalCluster

from umlip_latents import FeatureBlocks, distributed, load_model, load_structures, split_atoms
from umlip_latents.features import common_structures
from umlip_latents.provenance import provenance
from umlip_latents.resources import DATA, write_whole

MODELS = ("mini-mace-mptrj", "chgnet-0.3.0")
LAYER = "last"
N_TEST, N_LOCAL = 100_000, 1_000  # atoms


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


def peak(pid: int) -> float:
    """Largest memory that a process has had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


class Watch(threading.Thread):
    """Looks every second at the memory of all processes, and kills one worker when it is told to.

    Attributes
    ----------
    peaks
        Process to MiB.
    kill_at
        Number of blocks of the store after which a worker is killed.
    """

    def __init__(self, client: Client, store: Path, kill_at: int) -> None:
        super().__init__(daemon=True)
        self.client, self.store, self.kill_at = client, store, kill_at
        self.peaks: dict[int, float] = {}
        self.killed = 0

    def run(self) -> None:
        """Until the process ends."""
        while True:
            pids = [*self.client.run(os.getpid).values()]
            for pid in (*pids, os.getpid()):
                with suppress(OSError):
                    self.peaks[pid] = peak(pid)
            if not self.killed and len([*self.store.glob("*/block-*")]) >= self.kill_at:
                self.killed = pids[0]
                os.kill(self.killed, signal.SIGKILL)
            time.sleep(1)


def timed(work: Callable, *args: Any, **options: Any) -> tuple[float, Any]:
    """Seconds, and what the work returned."""
    start = time.perf_counter()
    result = work(*args, **options)
    return time.perf_counter() - start, result


def main() -> None:
    """Run it, print the figures, write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=DATA / "reference-results/scale.json")
    arguments = parser.parse_args()
    structures = many_atoms(arguments.atoms)
    n_atoms = np.array([len(atoms) for atoms in structures])
    steps, found = {}, {"structures": len(structures), "atoms": int(n_atoms.sum())}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        store, work = Path(folder), (client, structures)
        watch = Watch(client, store, kill_at=len(structures) // 512)
        watch.start()
        features = {}
        for name in MODELS:
            extraction = distributed.extract_features, *work, name, LAYER
            steps[f"extraction, {name}"], features[name] = timed(*extraction, store=store)
        blocks = FeatureBlocks(structures, MODELS, LAYER, store)
        kept = np.concatenate(blocks.n_atoms())
        owner = np.repeat(np.arange(len(kept)), kept)
        train, test = split_atoms(kept, min(N_TEST, len(owner) // 10), by="structure")
        steps["streaming GFRE"], gfre = timed(
            distributed.streaming_gfre, client, blocks, train, test, groups=owner
        )
        tables = {
            name: part.features
            for name, part in zip(MODELS, common_structures(list(features.values())), strict=True)
        }
        some = np.random.default_rng(0).choice(test, min(N_LOCAL, len(test)), replace=False)
        steps[f"LFRE of {N_LOCAL:,} atoms"], lfre = timed(
            distributed.local_matrix, client, tables, train, some, groups=owner
        )
        sizes = [path.stat().st_size for path in store.rglob("*") if path.is_file()]
        columns = sum(sum(load_model(name).widths.values()) for name in MODELS)
        found |= {
            "killed_workers": int(bool(watch.killed)),
            "MiB": {"caller": watch.peaks[os.getpid()],
                    "worker": max(m for p, m in watch.peaks.items() if p != os.getpid())},
            "bytes": sum(sizes),
            "bytes_per_number": sum(sizes) / len(owner) / columns,
            "files": len(sizes),
        }  # fmt: skip
    found |= {"seconds": steps, "gfre": gfre.to_dict(), "lfre": lfre.to_dict()}
    about = provenance() | {"cores": os.cpu_count(), "models": MODELS, "layer": LAYER}
    write_whole(arguments.output, json.dumps({"provenance": about, **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
