"""Threads for work of one kind; what waits is bounded."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.problems import busy

Result = TypeVar("Result")


class Pool:
    """Runs functions in threads for coroutines of one event loop."""

    def __init__(self, name: str, workers: int, most: int, metrics: Metrics):
        """`most` is how many calls may run and wait together."""
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._pending, self._most = 0, most
        self._metrics, self._gauge = metrics, metrics.waiting.labels(name)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a call; a 503 problem where too many wait.

        A call that began goes on where its caller gave up, and counts until it is done.
        """
        if self._pending >= self._most:
            self._metrics.refused.inc()
            raise busy(f"{self._pending} requests wait already; try again in a second")
        loop = asyncio.get_running_loop()
        future = self._threads.submit(work, *arguments)
        self._count(1)
        future.add_done_callback(lambda done: _safely(loop, self._count, -1))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Waits for what runs; drops what waits."""
        self._threads.shutdown(cancel_futures=True)

    def _count(self, change: int) -> None:
        self._pending += change
        self._gauge.set(self._pending)


def _safely(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], value: int) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, value)
