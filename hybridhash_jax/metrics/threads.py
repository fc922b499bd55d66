"""Queries in threads: parts of them at a time, on all cores that the process may use."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# A multiple of the four queries that a pass over the database serves at once.
_QUERIES_A_TASK = 32


def in_threads(run: Callable[[slice], None], queries: int) -> None:
    """Calls `run` with slices that together are all queries; the threads end with the call.

    `run` must release the GIL to gain from it, and write to its own part of the result only.
    """
    parts = [slice(i, i + _QUERIES_A_TASK) for i in range(0, queries, _QUERIES_A_TASK)]
    workers = min(len(parts), cores())
    if workers == 1:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(run, parts):
            pass


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
