"""Work dealt out to threads and workers: the same numbers, and nothing left behind."""

import joblib
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info

from umlip_latents import FitOptions, compare, reconstruction_matrix, streaming_gfre
from umlip_latents.measures import METRICS
from umlip_latents.measures.parallel import count_jobs, run_tasks
from umlip_latents.resources import InputError

from .test_compare import TOTAL, as_features
from .test_reconstruction import OWNER, TABLES, WHOLE

SOME = {name: TABLES[name] for name in ("smooth", "wide", "onehot")}
BLOCKS = [{name: x[i : i + 60] for name, x in SOME.items()} for i in range(0, 240, 60)]


def matrices(**options) -> list[np.ndarray]:
    """Of every metric, of blocks, and of measures of one set of atoms."""
    how = {"groups": OWNER, **options}
    rng = np.random.default_rng(0)
    features = as_features(a=rng.normal(size=(TOTAL, 3)), b=rng.normal(size=(TOTAL, 2)))
    found = compare(features, ("cka", "overlap"), options=FitOptions(**options))
    return [
        *(reconstruction_matrix(SOME, *WHOLE, m, **how).to_numpy() for m in METRICS),
        streaming_gfre(BLOCKS, *WHOLE, **how).to_numpy(),
        found.draws["cka"],
        found.draws["overlap"],
    ]


@pytest.fixture(scope="module")
def expected():
    return matrices(n_jobs=1)


def assert_same(found, expected):
    for some, others in zip(found, expected, strict=True):
        assert some == pytest.approx(others, abs=1e-8)


def test_two_jobs_find_what_one_finds(expected):
    assert_same(matrices(n_jobs=2), expected)


def test_workers_of_a_cluster_find_what_one_job_finds(expected):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert count_jobs() == 2
        assert_same(matrices(), expected)


def test_jobs_are_those_asked_for_configured_or_all_cores():
    assert count_jobs() == count_jobs(-1) == joblib.cpu_count()
    assert count_jobs(3) == 3
    with joblib.parallel_config(n_jobs=5):
        assert count_jobs() == 5
    assert count_jobs(3, "cuda") == 1  # a GPU works for one process


def blas_threads() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def threads_of_task(fail: bool) -> tuple[int, int]:
    if fail:
        raise InputError("It failed.")
    return torch.get_num_threads(), max(blas_threads())


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_tasks_have_one_thread_and_threads_are_given_back(n_jobs):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    before = blas_threads()
    try:
        assert run_tasks(threads_of_task, [(False,)] * 4, n_jobs) == [(1, 1)] * 4
        with pytest.raises(InputError, match="It failed"):
            run_tasks(threads_of_task, [(False,), (True,)], n_jobs)
        assert torch.get_num_threads() == 3
        assert blas_threads() == before
    finally:
        torch.set_num_threads(n_threads)
