"""Workers of a Dask scheduler: the same numbers, also when one of them is killed."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import dask
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster

from umlip_latents import (
    FeatureBlocks,
    distributed,
    extract_features,
    reconstruction_matrix,
    split_atoms,
    streaming_gfre,
)
from umlip_latents import extraction as module
from umlip_latents.resources import InputError

from .test_extraction import Counting, atoms_of

STRUCTURES = atoms_of(120)
FREE = 3  # tasks that pass a closed gate
PATIENCE = 300  # seconds


class Halting(Counting):
    """Two layers that tell models apart; with a gate, every pass waits for it to open."""

    def __init__(self, name, gate=None):
        super().__init__()
        self.name, self.gate = name, gate
        self.widths = {"backbone": 3, "last": 4}

    def features(self, graphs):
        pass_gate(self.gate)
        x = np.concatenate([g.positions for g in graphs]).astype(np.float32)
        y = np.sin(len(self.name) * x)
        return {"backbone": x, "last": np.concatenate([y, y[:, :1] * x[:, 1:2]], axis=1)}


class HaltingBlocks(FeatureBlocks):
    """Every block that is read waits for the gate to open."""

    gate = None

    def __getitem__(self, number):
        pass_gate(self.gate)
        return super().__getitem__(number)


def pass_gate(gate):
    """Let `FREE` through a folder, name the others there, and have them wait until it is open."""
    if gate is None:
        return
    (gate / uuid4().hex).touch()
    if len(list(gate.iterdir())) > FREE:
        wait_for((gate / "open").exists)


def wait_for(happened):
    """Poll until it happened; that it never does is a failure."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)


def killing(client, gate, work):
    """The result of `work`; a worker is killed when both are in a task that waits at the gate."""
    gate.mkdir()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(work)
        wait_for(lambda: len(list(gate.iterdir())) >= FREE + 2 or result.done())
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        (gate / "open").touch()
        found = result.result(timeout=PATIENCE)
    client.wait_for_workers(2, timeout=PATIENCE)
    assert victim not in client.run(os.getpid).values()
    return found


def test_extraction_survives_a_killed_worker(client, tmp_path):
    expected = extract_features(STRUCTURES, Halting("a"), "last", progress=False)
    model = Halting("a", tmp_path / "gate")

    def work():
        return distributed.extract_features(
            client, STRUCTURES, model, "last", store=tmp_path, progress=False
        )

    found = killing(client, model.gate, work)
    assert np.array_equal(found.features, expected.features)
    assert np.array_equal(found.n_atoms, expected.n_atoms)
    assert len(list(tmp_path.glob("*/block-*"))) == 12


def test_gfre_survives_a_killed_worker(client, tmp_path):
    models = [Halting("a"), Halting("bcd")]
    features = {
        m.name: extract_features(STRUCTURES, m, "last", store=tmp_path, progress=False)
        for m in models
    }
    train, test = split_atoms(features["a"].n_atoms, 100)
    expected = reconstruction_matrix({n: f.features for n, f in features.items()}, train, test)
    blocks = HaltingBlocks(STRUCTURES, models, "last", tmp_path)
    assert np.array_equal(np.concatenate(blocks.n_atoms()), features["a"].n_atoms)
    alone = streaming_gfre(blocks, train, test)
    assert alone.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-10)
    blocks.gate = tmp_path / "gate"
    work = partial(distributed.streaming_gfre, client, blocks, train, test)
    found = killing(client, blocks.gate, work)
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-10)


def test_lfre_is_dealt_out_and_named_models_are_loaded_by_the_workers(
    client, tmp_path, models, crystals
):
    names = ("element", "mini-mace-untrained-s0")
    for name in names:
        address = client.scheduler.address
        options = {"store": tmp_path, "progress": False}
        found = distributed.extract_features(address, crystals, name, "last", **options)
        here = extract_features(crystals, name, "last", progress=False)
        # another process may have another number of threads
        assert found.features == pytest.approx(here.features, rel=1e-4, abs=1e-5)
    rng = np.random.default_rng(11)
    x = rng.normal(size=(300, 5))
    tables = {"x": x, "y": np.tanh(x @ rng.normal(size=(5, 7)))}
    train, test = np.arange(250), np.arange(250, 300)
    groups = np.repeat(np.arange(60), 5)
    expected = reconstruction_matrix(tables, train, test, "lfre", groups=groups)
    found = distributed.local_matrix(client, tables, train, test, groups=groups)
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-10)


def test_what_cannot_be_shared_is_refused(client, tmp_path):
    with pytest.raises(InputError, match="environment of its own"):
        distributed.extract_features(client, STRUCTURES, "7net-0", store=tmp_path)
    quickly = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with quickly, pytest.raises(InputError, match="no Dask scheduler answers"):
        distributed.extract_features("nowhere:1", STRUCTURES, "element", store=tmp_path)
    with pytest.raises(InputError, match="extract them first"):
        FeatureBlocks(STRUCTURES, ["element"], "last", tmp_path)
    extract_features(STRUCTURES, "element", store=tmp_path, progress=False)
    blocks = FeatureBlocks(STRUCTURES, ["element"], "last", tmp_path)
    with pytest.raises(InputError, match="the split names atom 99999"):
        streaming_gfre(blocks, np.arange(9), [99_999])
    with pytest.raises(InputError, match="the split names atom 99999"):
        distributed.streaming_gfre(client, blocks, np.arange(9), [99_999])


def test_blocks_hold_only_what_every_model_accepts(models, crystals, lonely, tmp_path):
    structures = [crystals[0], lonely, crystals[1]]
    pair = [models["chgnet-0.3.0"], models["element"]]
    for model in pair:
        extract_features(structures, model, store=tmp_path, progress=False)
    blocks = FeatureBlocks(structures, pair, "last", tmp_path)
    n_atoms = len(crystals[0]) + len(crystals[1])
    assert [x.shape for x in blocks[0].values()] == [(n_atoms, 64), (n_atoms, 118)]
    assert list(blocks.n_atoms()[0]) == [len(crystals[0]), len(crystals[1])]
