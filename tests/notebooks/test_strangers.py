"""Every notebook on parameters that nobody had in mind when it was written."""

import re
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import joblib
import nbformat
import numpy as np
import papermill
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from umlip_latents.book import ROOT

NOTEBOOKS = sorted(
    path.stem
    for path in (ROOT / "notebooks").glob("*.ipynb")
    if "dataset" in papermill.inspect_notebook(str(path))  # the toy makes its own points
)
OWN = "my_model.py:SymmetryFunctions"
# small, where a notebook has the parameter
SMALL = {
    "every": 1,
    "n_splits": 1,
    "n_test_local": 12,
    "max_order": 3,
    "epochs": 1,
    "bespoke_epochs": 1,
    "n_training": 4,
    "n_target_test": 3,
    "n_held_out": 8,
    "sweep_sizes": [],
    "sweep_rates": [],
    "targets": [],
    "n_elements": 2,
    "aspects": ["loss"],
    "neighbours": [8, 16],
    "second_every": 30,
    "orders": [2],
    "train_shares": [0.5],
    "every_frame": 8,
    "n_parents": 4,
    "strains": [5],
    "rattles": [20],
    "sizes": [4, 8],
    "n_repeats": 2,
    "n_null": 20,
    "n_bootstrap": 50,
}


def rattled(parents: list[Atoms], n: int) -> list[Atoms]:
    """Strained and rattled copies, one parent after the other, without labels."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        atoms = parents[i % len(parents)].copy()
        strain = np.eye(3) + rng.normal(0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
        found.append(atoms)
    return found


def one_element() -> list[Atoms]:
    return rattled([bulk("Cu", cubic=True), bulk("Cu", cubic=True).repeat((2, 1, 1))], 20)


def large_cells() -> list[Atoms]:
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    ceramic = bulk("MgO", "rocksalt", a=4.21, cubic=True)
    return rattled([salt.repeat((2, 1, 1)), bulk("Si", cubic=True).repeat((3, 1, 1)),
                    ceramic.repeat((1, 1, 3))], 14)  # fmt: skip


def molecules() -> list[Atoms]:
    names = ("H2O", "CH4", "NH3", "CH3CH2OH", "C2H4", "CO2", "HCN", "C6H6", "CH3OH", "C2H6")
    return rattled([molecule(name) for name in names], 20)


SETS = {
    "one model and no baseline": (large_cells, ["mini-mace-base-s0"], []),
    "one element, and a baseline that cannot be had": (
        one_element,
        ["mini-mace-base-s0", OWN],
        ["element", "mace-mp-0a-small"],
    ),
    "large cells": (large_cells, ["chgnet-0.3.0", OWN], ["element"]),
    "molecules without a cell": (
        molecules,
        ["mini-mace-base-s0", "mini-mace-base-s1", "mini-mace-base-s2"],
        [],
    ),
    "a model of one's own": (molecules, ["element", OWN], []),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every notebook with every set of parameters, as many at a time as there are cores.

    One kernel runs many of them, one after the other, and imports the libraries only once.
    """
    folder = tmp_path_factory.mktemp("strangers")
    kernels = SimpleQueue()

    def run(case: tuple[str, str]) -> nbformat.NotebookNode | CellExecutionError:
        name, notebook = case
        make, models, baselines = SETS[name]
        work = folder / re.sub(r"\W+", "-", name)
        work.mkdir(exist_ok=True)
        structures = work / f"{notebook}.extxyz"
        write(structures, make())
        source = ROOT / "notebooks" / f"{notebook}.ipynb"
        parameters = {
            **SMALL,
            "dataset": str(structures),
            "models": models,
            "baselines": baselines,
            "transfers": [models],  # start, tuned model and stranger, if they are three
            "store": str(work / "features"),
            "results": str(work / "results"),
        }
        known = papermill.inspect_notebook(str(source))
        here = {k: v for k, v in parameters.items() if k in known}
        filled = parameterize_notebook(load_notebook_node(str(source)), here)
        filled.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
        kernel = kernels.get()
        try:
            return NotebookClient(filled, km=kernel).execute()
        except CellExecutionError as error:
            return error
        finally:
            kernels.put(kernel)

    cases = [(name, notebook) for name in SETS for notebook in NOTEBOOKS]
    n_kernels = joblib.cpu_count()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(n_kernels) as pool:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(ROOT / "notebooks")
        for _ in range(n_kernels):
            kernels.put(KernelManager(kernel_name="python3"))
        yield dict(zip(cases, pool.map(run, cases), strict=True))
        while not kernels.empty():
            kernels.get().shutdown_kernel(now=True)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("name", SETS)
def test_a_notebook_runs_on_a_strangers_parameters(runs, name, notebook):
    found = runs[name, notebook]
    assert not isinstance(found, Exception), str(found)[-2000:]
    said = [
        output["data"].get("text/markdown", output["data"].get("text/html", ""))
        for cell in found.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    # prose and captions, no tables
    text = re.sub(r"<table.*?</table>|<[^>]*>", " ", " ".join(said), flags=re.S)
    assert "nan" not in text.lower().split()
    assert text.count(".") >= 2  # what it stands on, and what it found or could not do


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_what_cannot_be_had_is_named(runs, notebook):
    found = runs["one element, and a baseline that cannot be had", notebook]
    if "baselines" in papermill.inspect_notebook(str(ROOT / "notebooks" / f"{notebook}.ipynb")):
        assert "mace-mp-0a-small" in nbformat.writes(found)
