"""Every notebook on parameters that nobody had in mind when it was written."""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

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

KNOWN = {
    path.stem: papermill.inspect_notebook(str(path))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
NOTEBOOKS = [name for name, known in KNOWN.items() if "dataset" in known]
# small, where a chapter has the parameter
SMALL = dict(  # noqa: C408
    n_splits=2, n_test_local=12, n_bootstrap=4, n_repeats=2, max_order=3, n_folds=2,
    n_training=4, epochs=1, least=1, n_points=400,
)  # fmt: skip


def rattled(parents: list[Atoms]) -> list[Atoms]:
    """Thirty strained and rattled copies, one parent after the other, without labels."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(30):
        atoms = parents[i % len(parents)].copy()
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
        found.append(atoms)
    return found


MOLECULES = [molecule(name) for name in ("H2O", "CH4", "NH3", "CH3CH2OH", "C2H4", "HCN", "CH3OH")]
SALTS = [("NaCl", 5.64), ("MgO", 4.21), ("LiF", 4.03), ("KBr", 6.6), ("CaO", 4.8), ("NaF", 4.62)]
CRYSTALS = [bulk(name, "rocksalt", a=a).repeat((1, 1, 2)) for name, a in SALTS]
MISSING = "mace-mp-0a-small"
SILICON = [bulk("Si", cubic=True)]
# structures, models and baselines: salts, a model of one's own, and a baseline that cannot be had;
# molecules without a cell, two models; a single element, whose one-hot vectors do not vary
SETS = (
    (CRYSTALS, ["chgnet-0.3.0", "my_model.py:NearestDistances"], ["element", MISSING]),
    (MOLECULES, ["chgnet-0.3.0", "chgnet-r2scan"], ["element"]),
    (SILICON, ["chgnet-0.3.0", "my_model.py:NearestDistances"], ["element"]),
)


@pytest.fixture(
    scope="module",
    params=[0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))],
    ids=["salts", "molecules", "one element"],
)
def runs(request, tmp_path_factory):
    """The executed notebooks, or what stopped them, by name.

    Each of two kernels runs many of them, one after the other, and imports the libraries once.
    """
    folder, kernels = tmp_path_factory.mktemp("strangers"), SimpleQueue()
    parents, models, baselines = SETS[request.param]
    write(folder / "mine.extxyz", rattled(parents))
    file = str(folder / "mine.extxyz")
    given = {
        **SMALL,
        **dict.fromkeys(("dataset", "further", "crystals", "viewed", "other"), file),
        **dict.fromkeys(("models", "chosen"), models),
        "baselines": baselines,
        "untrained": [],
        "store": str(folder / "features"),
        "results": str(folder / "results"),
    }

    def run(name: str) -> nbformat.NotebookNode | CellExecutionError:
        source = load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb"))
        here = {key: value for key, value in given.items() if key in KNOWN[name]}
        here |= {"n_test": 30} if name == "08_measures" else {}
        notebook = parameterize_notebook(source, here)
        notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
        kernel = kernels.get()
        try:
            return NotebookClient(notebook, km=kernel).execute()
        except CellExecutionError as error:
            return error
        finally:
            kernels.put(kernel)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.chdir(ROOT / "notebooks")
        patch.setenv("UMLIP_LATENTS_OFFLINE", "1")
        for _ in range(2):
            kernels.put(KernelManager(kernel_name="python3"))
        yield dict(zip(NOTEBOOKS, pool.map(run, NOTEBOOKS), strict=True))
        while not kernels.empty():
            kernels.get().shutdown_kernel(now=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_chapter_runs_on_a_strangers_parameters(runs, name):
    found = runs[name]
    assert not isinstance(found, Exception), str(found)[-2000:]
    outputs = [output for cell in found.cells for output in cell.get("outputs", [])]
    shown = [o for o in outputs if {"image/png", "text/html"} & {*o.get("data", {})}]
    assert shown, "neither a figure nor a table"
