"""Independent tasks dealt out to cores or a cluster, each on one thread."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from tqdm import tqdm

from ..models.base import one_thread


def count_jobs(n_jobs: int | None = None, device: str | torch.device = "cpu") -> int:
    """How many tasks run at a time.

    Parameters
    ----------
    n_jobs
        As joblib counts, -1 for all cores; by default what `joblib.parallel_config` says, or all
        cores.
    device
        A GPU computes one task at a time.

    Examples
    --------
    >>> count_jobs(2), count_jobs(2, "cuda")
    (2, 1)
    """
    on_cores = n_jobs or get_active_backend()[1] or -1
    return effective_n_jobs(on_cores if torch.device(device).type == "cpu" else 1)


def run_tasks(
    function: Callable, tasks: Sequence[tuple], n_jobs: int, progress: bool = False
) -> list[Any]:
    """The results of a function for every tuple of arguments, in their order.

    Joblib deals them to threads, which share memory, or to the workers of a cluster inside
    ``joblib.parallel_config(backend="dask")``; there an array that several tasks name travels once.

    Parameters
    ----------
    function
        Of a module, so that it can be sent to a worker.
    tasks
        Arguments of each call.
    n_jobs
        Tasks at a time, from `count_jobs`.
    progress
        Show a progress bar, which is called as the function is.

    Examples
    --------
    >>> run_tasks(pow, [(2, 1), (2, 2), (2, 3)], n_jobs=2)
    [2, 4, 8]
    """
    title = getattr(function, "func", function).__name__.replace("_", " ")
    pool = Parallel(min(n_jobs, len(tasks)) or 1, prefer="threads", return_as="generator")
    with one_thread():
        results = pool(delayed(_call)(function, *task) for task in tasks)
        return list(tqdm(results, title, len(tasks), disable=not progress))


def _call(function: Callable, *arguments: Any) -> Any:
    torch.set_num_threads(1)  # each thread has a number of its own
    return function(*arguments)
