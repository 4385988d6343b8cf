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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import pandas as pd
import psutil
import scipy.linalg
import torch
import zarr
from skmatter.metrics import global_reconstruction_error as skmatter_gfre
from skmatter.metrics import local_reconstruction_error as skmatter_lfre
from zarr.codecs import BloscCodec, ZstdCodec

from umlip_latents import (
    extract_features,
    list_models,
    load_model,
    load_structures,
    reconstruction_matrix,
    split_atoms,
    streaming_gfre,
)
from umlip_latents.book import ROOT
from umlip_latents.environments import CURRENT, make_environment
from umlip_latents.extraction import BATCH_SIZE, packed
from umlip_latents.features import common_structures
from umlip_latents.models.base import Unsupported
from umlip_latents.provenance import provenance
from umlip_latents.resources import DATA, InputError, write_whole
from umlip_latents.similarity import MEASURES, measured
from umlip_latents.store import PACKED

CHGNETS = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan")
ATOMS = 100_000  # of the short run of the streaming GFRE
ROWS = 10_000  # of one of its blocks


def seconds(work: Callable, *args, **kwargs) -> tuple[float, object]:
    """Wall time, and what the work returned."""
    start = time.perf_counter()
    result = work(*args, **kwargs)
    return time.perf_counter() - start, result


def peak(pid: int) -> float:
    """Largest memory that a process has had, in MiB.

    getrusage would report the parent's where that is higher.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def real_tables() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Both layers of three CHGNets on Alexandria structures, and the atoms of each structure."""
    structures = load_structures("alexandria-random-1k")
    tables = {}
    for layer in ("backbone", "last"):
        found = [
            extract_features(structures, name, layer, store=ROOT / "_build" / "features")
            for name in CHGNETS
        ]
        for features in common_structures(found):
            tables[f"{features.model} {layer}"] = features.features
    return tables, common_structures(found)[0].n_atoms


def against_scikit_matter(tables, train, test, n_pairs: int) -> list[tuple]:
    """Complete matrices, and the same pairs one after the other by scikit-matter."""
    rows = []
    pairs = list(product(tables, tables))
    timed = pairs[:: max(1, len(pairs) // n_pairs)][:n_pairs]
    split = {"train_idx": train, "test_idx": test}
    total = np.zeros(2)
    for metric, function, options in (
        ("gfre", skmatter_gfre, {}),
        ("lfre", skmatter_lfre, {"n_local_points": 64, "n_jobs": -1}),
    ):
        # warm up, as the first of scikit-matter's many calls does for the rest
        reconstruction_matrix(tables, train, test[:20], metric)
        ours, matrix = seconds(reconstruction_matrix, tables, train, test, metric)
        theirs, difference = 0.0, 0.0
        for source, target in timed:
            x, y = (tables[name].astype(np.float64) for name in (source, target))
            took, expected = seconds(function, x, y, **options, **split)
            theirs += took
            difference = max(difference, abs(expected - matrix.loc[source, target]))
        theirs *= len(pairs) / len(timed)
        total += [ours, theirs]
        cells = (f"{ours:.2f}", f"{theirs:.1f}", f"{theirs / ours:.0f}")
        rows.append((metric.upper(), f"{len(timed)} of {len(pairs)}", *cells, f"{difference:.0e}"))
    cells = (f"{total[0]:.2f}", f"{total[1]:.1f}", f"{total[1] / total[0]:.0f}")
    return [*rows, ("both", "", *cells, "")]


def folds_by_structure(tables, n_atoms: np.ndarray) -> list[tuple]:
    """Matrices with folds by atom and by structure in turn, the same split by structure."""
    train, test = split_atoms(n_atoms, 1000, by="structure")
    owner = np.repeat(np.arange(len(n_atoms)), n_atoms)
    rows = []
    for metric in ("gfre", "lfre"):
        took = {"atom": [], "structure": []}
        for _ in range(3):
            for folds, groups in (("atom", None), ("structure", owner)):
                work = reconstruction_matrix, tables, train, test, metric
                took[folds].append(seconds(*work, groups=groups)[0])
        one, other = (float(np.median(took[folds])) for folds in took)
        rows.append((metric.upper(), f"{one:.2f}", f"{other:.2f}", f"{other / one:.2f}"))
    return rows


def against_the_libraries(n_structures: int) -> list[tuple]:
    """Extraction in batches, and one structure after the other as the model's library does it."""
    from mace.calculators import MACECalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    structures = load_structures("mptrj-random-1k")[:n_structures]
    rows = []
    for name in ("chgnet-0.3.0", "mini-mace-mptrj"):
        model = load_model(name)
        extract_features(structures[:3], model, progress=False)  # warm up
        ours, found = seconds(extract_features, structures, model, progress=False)
        kept = [structures[i] for i in found.kept]
        if name.startswith("chgnet"):

            def library(atoms, task, network=model.network):
                structure = AseAtomsAdaptor.get_structure(atoms)
                return network.predict_structure(structure, task=task, return_atom_feas=True)

            ways = {
                "`predict_structure(s, return_atom_feas=True)`": partial(library, task="efsm"),
                "the same with `task='e'`": partial(library, task="e"),
            }
        else:
            calculator = MACECalculator(
                models=[model.network], device="cpu", default_dtype="float32"
            )
            ways = {"`MACECalculator.get_descriptors`": calculator.get_descriptors}
        for way, work in ways.items():
            work(kept[0])
            theirs, _ = seconds(lambda: [work(atoms) for atoms in kept])  # noqa: B023
            cells = (f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}")
            rows.append((name, way, len(kept), *cells))
    return rows


def spin(_: int) -> None:
    """Keep a core busy."""
    while True:
        pass


class Memory(threading.Thread):
    """Looks ten times a second at the memory that this process's workers have to themselves.

    Attributes
    ----------
    largest
        MiB of the worker that had most.
    """

    largest = 0.0

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.1):
            for worker in psutil.Process().children():
                with suppress(psutil.Error):
                    self.largest = max(self.largest, worker.memory_full_info().uss / 2**20)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def by_workers(n_structures: int) -> list[tuple]:
    """Extraction by one process and by as many as there are cores, alone and beside busy ones.

    One has one thread, as each of the many has.
    """
    structures = load_structures("mptrj-random-1k")[:n_structures]
    n_cores = joblib.cpu_count()
    rows = []
    for name in ("chgnet-0.3.0", "mini-mace-mptrj"):
        model = load_model(name)
        extract_features(structures[:3], model, progress=False)  # warm up
        work = partial(seconds, extract_features, structures, model, progress=False)
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        one, _ = work(workers=1)
        torch.set_num_threads(n_threads)
        with Memory() as memory:
            many, _ = work(workers=n_cores)
        with get_context("spawn").Pool(n_cores) as busy:
            busy.map_async(spin, range(n_cores))
            time.sleep(3)
            beside, _ = work()
        cells = (f"{one:.1f}", f"{many:.1f}", f"{one / many:.2f}", f"{memory.largest:.0f}")
        rows.append((name, len(structures), *cells, f"{beside:.1f}", f"{beside / many:.2f}"))
    return rows


LIMITED = ("chgnet-0.3.0", "mini-mace-mptrj", "7net-0", "nequix-untrained-s0",
           "tensornet-untrained-s0", "soap")  # fmt: skip


def limit(name: str, n_structures: int) -> None:
    """Print the best of two of the seconds of the graphs, of the bare forward passes with all
    threads, and of the extraction by one process with all threads and by one per core."""
    model, structures = load_model(name), load_structures("mptrj-random-1k")[:n_structures]
    extract_features(structures[:3], model, progress=False)  # warm up

    def prepared() -> dict:
        graphs = {}
        for index, atoms in enumerate(structures):
            with suppress(Unsupported):
                graphs[index] = model.prepare(atoms)
        return graphs

    graphs = prepared()
    sizes = {index: model.size(graph) for index, graph in graphs.items()}
    batches = [[graphs[i] for i in batch] for batch in packed(sizes, BATCH_SIZE)]
    for batch in batches:  # warm up, also what is compiled for a shape
        model.features(batch)
    extract = partial(extract_features, structures, model, progress=False)
    ways = {
        "forward": lambda: [model.features(batch) for batch in batches],
        "graphs": prepared,
        "one": partial(extract, workers=1),
        "all": extract,
    }
    runs = [{way: seconds(work)[0] for way, work in ways.items()} for _ in range(2)]
    print(json.dumps({way: min(run[way] for run in runs) for way in ways}))


def against_the_limit(n_structures: int) -> list[tuple]:
    """What extraction adds to the networks' own forward passes."""
    rows = []
    for name in LIMITED:
        environment = list_models()[name].get("environment")
        python = make_environment(environment) if environment else sys.executable
        command = [python, __file__, "--limit", name, "--structures", str(n_structures)]
        variables = {CURRENT: environment} if environment else {}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **variables}
        )
        took = json.loads(done.stdout.splitlines()[-1])
        cells = [f"{took[way]:.2f}" for way in ("forward", "graphs", "one", "all")]
        ratios = [f"{took[way] / took['forward']:.2f}" for way in ("one", "all")]
        rows.append((name, *cells, *ratios))
    return rows


def errors_against_the_limit(tables, train, test) -> list[tuple]:
    """GFRE against one pass over the tables, LFRE against LAPACK on matrices of its shapes."""
    widths = [x.shape[1] for x in tables.values()]
    gfre, _ = seconds(reconstruction_matrix, tables, train, test, "gfre")
    memory, _ = seconds(lambda: [x.sum() for x in tables.values()])
    lfre, _ = seconds(reconstruction_matrix, tables, train, test, "lfre", n_local_points=64)

    def factorise(width: int) -> None:
        for _ in test:
            for n_rows in (64, 32, 32):  # all neighbours, and each of the folds
                scipy.linalg.svd(noise[:n_rows, :width], full_matrices=False)

    noise = np.random.default_rng(0).normal(size=(64, max(widths)))
    lapack, _ = seconds(lambda: [factorise(width) for width in widths])
    return [
        (metric, bound, f"{ours:.2f}", f"{least:.2f}", f"{ours / least:.1f}")
        for metric, bound, ours, least in (
            ("GFRE", "one sum over the tables", gfre, memory),
            ("LFRE", "the singular values by LAPACK, one thread", lfre, lapack),
        )
    ]


WAYS: dict[str, Callable[[tuple], dict]] = {
    "Zarr's own choice": lambda shape: {},
    "none": lambda shape: {"chunks": shape, "compressors": None},
    "Zstandard": lambda shape: {"chunks": shape, "compressors": ZstdCodec(level=3)},
    "Zstandard, bytes shuffled": lambda shape: {
        "chunks": shape, "compressors": BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    },
    "LZ4, bytes shuffled (the store's)": lambda shape: {"chunks": shape, "compressors": PACKED},
    "the same in shards of four chunks": lambda shape: {
        "chunks": (shape[0] // 4, shape[1]), "shards": shape, "compressors": PACKED
    },
}  # fmt: skip


def compressions() -> list[tuple]:
    """Features in blocks as the store writes them, compressed in several ways; best of three."""

    def write(blocks: np.ndarray, folder: Path, way: str) -> None:
        for number, block in enumerate(blocks):
            group = zarr.open_group(folder / str(number), mode="w", zarr_format=3)
            group.create_array("features", data=block, **WAYS[way](block.shape))

    def read(folder: Path) -> None:
        for block in folder.iterdir():
            zarr.open_group(block, mode="r")["features"][:]

    rows = []
    structures = load_structures("mptrj-random-1k")
    for name in ("chgnet-0.3.0", "mini-mace-mptrj"):
        found = extract_features(structures, name, store=ROOT / "_build" / "features").features
        blocks = found[: len(found) // 3000 * 3000].reshape(-1, 3000, found.shape[1])
        for way in WAYS:
            with TemporaryDirectory() as temporary:
                folder = Path(temporary)
                runs = [(seconds(write, blocks, folder, way)[0], seconds(read, folder)[0])
                        for _ in range(3)]  # fmt: skip
                sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
            speeds = (f"{blocks.nbytes / 2**20 / t:.0f}" for t in np.min(runs, axis=0))
            left = f"{sum(sizes) / blocks.nbytes:.2f}"
            rows.append((name, way, left, *speeds, len(sizes) // len(blocks)))
    return rows


def noisy_blocks(n_atoms: int) -> Iterator[dict[str, np.ndarray]]:
    """Blocks of three tables of width 64 that share hidden causes."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 20, 64))
    for _ in range(0, n_atoms, ROWS):
        hidden = rng.normal(size=(ROWS, 20))
        yield {
            f"model {i}": np.tanh(hidden @ m) + 0.01 * rng.normal(size=(ROWS, 64))
            for i, m in enumerate(mixing)
        }


def stream(n_atoms: int) -> None:
    """Print time and peak memory of the streaming GFRE over so many atoms."""
    train, test = split_atoms(np.full(n_atoms // 10, 10), 10_000)
    took, _ = seconds(streaming_gfre, noisy_blocks(n_atoms), train, test)
    print(json.dumps({"seconds": took, "MiB": peak(os.getpid())}))


def growth_with_atoms() -> list[tuple]:
    """The streaming GFRE over ten times the atoms, each run in a process of its own."""
    found = []
    for n_atoms in (ATOMS, 10 * ATOMS):
        command = [sys.executable, __file__, "--stream", str(n_atoms)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append({"atoms": n_atoms, **json.loads(output.splitlines()[-1])})
    return [
        (
            f"{run['atoms']:,}",
            f"{run['seconds']:.1f}",
            f"{run['seconds'] / found[0]['seconds']:.1f}",
            f"{run['MiB']:.0f}",
            f"{run['MiB'] / found[0]['MiB']:.2f}",
        )
        for run in found
    ]


def lenses(n_models: int = 13, n_atoms: int = 8_000) -> list[tuple]:
    """Every measure of all pairs, on so many test atoms, with as many to train on."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2 * n_atoms, 20))
    tables = {
        f"model {i}": np.tanh(hidden @ rng.normal(size=(20, 128)))
        + rng.normal(size=(len(hidden), 128)) / 10
        for i in range(n_models)
    }
    n_each = np.full(len(hidden) // 10, 10)
    owner = np.repeat(np.arange(len(n_each)), n_each)
    train, test = split_atoms(n_each, n_atoms, by="structure")
    tested = [x[test] for x in tables.values()]
    took = {
        metric: seconds(reconstruction_matrix, tables, train, test, metric, groups=owner)[0]
        for metric in ("gfre", "gfrd", "kernel")
    }
    took |= {metric: seconds(measured, metric, tested, owner[test])[0] for metric in MEASURES}
    return [(metric, f"{t:.1f}", f"{t / took['gfre']:.1f}") for metric, t in took.items()]


def growth_with_models(tables, train, test) -> list[tuple]:
    """Complete matrices of more and more models, 200 test atoms."""
    rng = np.random.default_rng(0)
    rows = []
    base = list(tables.values())
    for n_models in (3, 6, 12):
        some = {
            str(i): base[i % len(base)] * (1 + 0.01 * rng.normal(size=base[0].shape))
            for i in range(n_models)
        }
        took = [
            seconds(reconstruction_matrix, some, train, test[:200], metric)[0]
            for metric in ("gfre", "lfre")
        ]
        per_pair = (f"{1000 * t / n_models**2:.1f}" for t in took)
        rows.append((n_models, n_models**2, *(f"{t:.2f}" for t in took), *per_pair))
    return rows


def main() -> None:
    """Run every comparison, print the tables, write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=36, help="pairs timed with scikit-matter")
    parser.add_argument("--structures", type=int, default=256, help="structures extracted")
    parser.add_argument("--output", type=Path, default=DATA / "reference-results/benchmarks.json")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--limit", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.stream)
        return
    if arguments.limit:
        limit(arguments.limit, arguments.structures)
        return
    tables, n_atoms = real_tables()
    train, test = split_atoms(n_atoms, 1000)
    compared = against_scikit_matter(tables, train, test, arguments.pairs)
    extracted = against_the_libraries(2 * arguments.structures)
    sections = [
        {
            "title": "Matrices of six tables against scikit-matter (`n_jobs=-1`)",
            "header": ["metric", "pairs timed", "here, s", "scikit-matter, s", "ratio", "largest "
                       "difference"],
            "rows": compared,
        },
        {
            "title": "The same matrices with folds by structure, median of three runs in turn",
            "header": ["metric", "folds by atom, s", "folds by structure, s", "ratio"],
            "rows": folds_by_structure(tables, n_atoms),
        },
        {
            "title": "Extraction against the libraries, one structure after the other",
            "header": ["model", "library's way", "structures", "here, s", "library, s", "ratio"],
            "rows": extracted,
        },
        {
            "title": "Extraction by one process and one per core, alone and beside busy processes",
            "header": ["model", "structures", "one, s", "all, s", "ratio", "memory of a worker, "
                       "MiB", "beside busy ones, s", "ratio"],
            "rows": by_workers(4 * arguments.structures),
        },
        {
            "title": "Extraction by one process with a thread per core, and by one process per "
            "core, against the bare forward passes of the networks with a thread per core",
            "header": ["model", "forward passes, s", "graphs, s", "one process, s", "one per core, "
                       "s", "one / forward", "one per core / forward"],
            "rows": against_the_limit(arguments.structures),
        },
        {
            "title": "Matrices against a bound",
            "header": ["metric", "bound", "here, s", "bound, s", "ratio"],
            "rows": errors_against_the_limit(tables, train, test),
        },
        {
            "title": "Blocks of features on disk, a backbone layer of 3,000 atoms each",
            "header": ["model", "compression", "of the bytes", "written, MiB/s", "read, MiB/s",
                       "files"],
            "rows": compressions(),
        },
        {
            "title": "Streaming GFRE of three tables of width 64: growth with atoms",
            "header": ["atoms", "seconds", "ratio", "peak memory, MiB", "ratio"],
            "rows": growth_with_atoms(),
        },
        {
            "title": "Matrices with 200 test atoms: growth with models",
            "header": ["models", "pairs", "GFRE, s", "LFRE, s", "GFRE, ms per pair",
                       "LFRE, ms per pair"],
            "rows": growth_with_models(tables, train, test),
        },
        {
            "title": "Every lens: 13 models of width 128, 8,000 test atoms",
            "header": ["metric", "seconds", "times the GFRE"],
            "rows": lenses(),
        },
    ]  # fmt: skip
    machine = {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}
    content = {"provenance": provenance() | machine, "sections": sections}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.output, json.dumps(content, indent=1) + "\n")
    for section in sections:
        table = pd.DataFrame(section["rows"], columns=section["header"])
        print(f"\n{section['title']}\n\n{table.to_markdown(index=False)}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
