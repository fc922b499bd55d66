"""Threads for work of one kind; what waits is bounded."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.problems import busy

Result = TypeVar("Result")


class Pool:
    """Runs functions in threads for coroutines of one event loop."""

    def __init__(self, name: str, workers: int, most: int, metrics: Metrics):
        """`most` is how many calls may run and wait together."""
        self._name, self._workers = name, workers
        # Of our own, and daemons: those of the library are waited for at the end of the process, and
        # nothing ends a thread that decodes.
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[tuple[Future, Callable, tuple] | None] = queue.SimpleQueue()
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
        future: Future[Result] = Future()
        self._count(1)
        future.add_done_callback(lambda done: _safely(loop, self._count, -1))
        self._queue.put((future, work, arguments))
        if len(self._threads) < self._workers:
            one = threading.Thread(target=self._work, name=self._name, daemon=True)
            one.start()
            self._threads.append(one)
        return await asyncio.wrap_future(future)

    def close(self, seconds: float) -> None:
        """Drops what waits, and waits so long at most for what runs."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while one := self._queue.get_nowait():
                one[0].cancel()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (one := self._queue.get()) is not None:
            _do(*one)
            del one  # an upload is not held until the next comes

    def _count(self, change: int) -> None:
        self._pending += change
        self._gauge.set(self._pending)


def _do(future: Future, work: Callable, arguments: tuple) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work(*arguments))
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future, work, arguments  # which the error's traceback would hold


def _safely(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], value: int) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, value)
