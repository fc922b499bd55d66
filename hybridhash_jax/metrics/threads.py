"""Queries in threads: parts of them at a time, on all cores that the process may use."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from input_pipeline.sources import available_cores

# A multiple of the four queries that a pass over the database serves at once.
_QUERIES_A_TASK = 32


def in_threads(run: Callable[[slice], None], queries: int) -> None:
    """Calls `run` with slices that together are all queries; the threads end with the call.

    `run` must release the GIL to gain from it, and write to its own part of the result only.
    """
    parts = [slice(i, i + _QUERIES_A_TASK) for i in range(0, queries, _QUERIES_A_TASK)]
    workers = min(len(parts), available_cores())
    if workers == 1:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(run, parts):
            pass
