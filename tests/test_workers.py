"""Work shared by forked processes."""

import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest
from ase.build import bulk

from umlip_latents import extract_features, extraction
from umlip_latents.workers import side_by_side

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


def leave(folder):
    """A task that leaves a file with the number of its process."""

    def work(task, watch):
        path = folder / str(task)
        assert not path.exists()
        path.write_text(str(os.getpid()))
        time.sleep(0.01)
        watch(1)

    return work


def test_every_task_is_done_once_and_by_others(tmp_path):
    steps = []
    side_by_side(leave(tmp_path), range(40), 3, steps.append)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(40))
    pids = {path.read_text() for path in tmp_path.iterdir()}
    assert 1 < len(pids) <= 3
    assert str(os.getpid()) not in pids
    assert sum(steps) == 40


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: 1 / 0])
def test_who_dies_or_fails_takes_one_task_with_it(end, tmp_path, capfd):
    plain = leave(tmp_path)

    def work(task, watch):
        if task == 7:
            end()
        plain(task, watch)

    side_by_side(work, range(20), 2, lambda n: None)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [*range(7), *range(8, 20)]
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_ends_the_workers(tmp_path):
    def interrupted(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(lambda task, watch: time.sleep(60), range(2), 2, interrupted)
    assert not multiprocessing.active_children()


@pytest.fixture
def many():
    """Three blocks of structures of different sizes."""
    rng = np.random.default_rng(0)
    cells = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64), bulk("Si", cubic=True)]
    found = [cells[i].copy() for i in rng.integers(3, size=300)]
    for atoms in found:
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    return found


@pytest.mark.parametrize("deadly", [False, True])
@pytest.mark.parametrize("name", ["chgnet-0.3.0", "mini-mace-mptrj"])
def test_the_features_do_not_depend_on_the_workers(name, deadly, many, models, monkeypatch):
    """Not by one bit, also if the one that takes the last block dies of it."""
    caller, compute = os.getpid(), extraction.extract_block
    helpers = set()

    def block(structures, *others):
        if deadly and len(structures) < extraction.BLOCK and os.getpid() != caller:
            os.kill(os.getpid(), signal.SIGKILL)
        helpers.add(os.getpid())
        return compute(structures, *others)

    monkeypatch.setattr(extraction, "extract_block", block)
    shared = extract_features(many, models[name], workers=2, progress=False)
    assert helpers == ({caller} if deadly else set())  # what the others add is theirs
    alone = extract_features(many, models[name], workers=1, progress=False)
    assert np.array_equal(shared.features, alone.features)
    assert np.array_equal(shared.kept, alone.kept)


def test_a_model_that_does_not_say_that_it_forks_stays_in_its_process(many, models):
    class Own:
        """The bare element, counted."""

        name, fingerprint, widths = "own", "own", models["element"].widths
        prepare, size = models["element"].prepare, models["element"].size
        calls = 0

        def features(self, graphs):
            self.calls += 1
            return models["element"].features(graphs)

    own = Own()
    extract_features(many, own, workers=4, progress=False)
    assert own.calls >= 3


def test_as_many_workers_as_there_are_cores_to_use(many, models, monkeypatch):
    """As joblib counts them: by affinity, control group, and what a batch system allows."""
    asked = []
    monkeypatch.setattr(extraction, "side_by_side", lambda *given: asked.append(given[2]))
    for n_cores in ("1", "2"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", n_cores)
        extract_features(many, models["mini-mace-mptrj"], progress=False)
    assert asked == [2] * (len(os.sched_getaffinity(0)) > 1)


@pytest.mark.parametrize("workers", [None, 2])
def test_a_process_that_must_have_none_computes_itself(workers, many, tmp_path):
    """As a worker of a pool, or of a loader of data."""

    def work():
        options = {"store": tmp_path, "workers": workers, "progress": False}
        extract_features(many, "mini-mace-mptrj", **options)

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert len([*tmp_path.glob("*/block-*")]) == 3
