"""Work done side by side by forked processes of one thread each."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from multiprocessing import connection
from typing import Any

import numpy as np
import torch

POLL = 0.1  # seconds between two looks at the workers
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt


def can_fork() -> bool:
    """Whether this process may have copies: on Linux, unless it must not have any of its own."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def keep_memory() -> None:
    """Have this process keep what it frees for the next batch, up to a gigabyte.

    To ask the system for the same pages again and again takes a small MACE a quarter of its time,
    and a third of CHGNet's under the settings of Dask's workers. Another C library than GNU's is
    left as it is.
    """
    with suppress(AttributeError, OSError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(TRIM_THRESHOLD, 1 << 30)
        c_library.mallopt(MMAP_THRESHOLD, 1 << 25)


def side_by_side(
    work: Callable[[Any, Callable[[int], Any]], Any],
    tasks: Sequence[Any],
    n_workers: int,
    watch: Callable[[int], Any],
) -> None:
    """Do as many of the tasks as can be done, whoever is free taking the next one.

    The workers see what this process has in memory and return nothing but what they leave on disk.
    One that fails or dies takes its task with it, and the others go on: the caller looks what is
    missing, does it itself, and sees why if there is a reason. Where this process is killed, they
    end by themselves after the last task.

    Parameters
    ----------
    work
        Called with a task, and with what it is to call with the number of steps it has done.
    tasks
        Those that take long should come first.
    n_workers
        Number of processes.
    watch
        Called with the number of steps done since its last call.
    """
    context = multiprocessing.get_context("fork")
    # no locks, which a worker that is killed would keep: each has a counter of its own, and to
    # read from one open file is to take what nobody else has read
    done = context.RawArray("q", n_workers)
    with tempfile.TemporaryFile(buffering=0) as numbers:
        numbers.write(np.arange(len(tasks)).tobytes())
        numbers.seek(0)

        def worker(own: int) -> None:
            def advance(n: int) -> None:
                done[own] += n

            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends them
            torch.set_num_threads(1)
            keep_memory()
            # whatever is wrong, the caller sees it, too
            with open(os.devnull, "w") as nothing, redirect_stderr(nothing), suppress(Exception):
                while number := numbers.read(8):
                    work(tasks[int.from_bytes(number, sys.byteorder)], advance)

        workers = [context.Process(target=worker, args=[i], daemon=True) for i in range(n_workers)]
        try:
            for process in workers:
                process.start()
            alive, seen = workers, 0
            while alive:
                connection.wait([process.sentinel for process in alive], POLL)
                alive, now = [process for process in alive if process.is_alive()], sum(done)
                watch(now - seen)
                seen = now
        finally:
            for process in workers:
                process.terminate()
                process.join()
