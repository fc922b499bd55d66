"""The one thread that runs the network; what waits goes through it together where that is faster."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.index import to_words
from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.problems import Problem, busy

if TYPE_CHECKING:  # it needs JAX
    from hybridhash_jax.retrieval.encoding.encoder import Encoder
    from input_pipeline.images.transforms import ImageTransform

_SECONDS = 0.005  # that an image waits for others to come along
_IMAGES = 16  # of a batch
_STARTING = "the network is still being made ready; try again in a second"


class _Waiting(NamedTuple):
    crop: np.ndarray
    code: "Future[np.ndarray]"
    since: float


class EncoderThread:
    """Makes the codes of crops.

    Attributes:
      error: why there is no encoder and will be none; None while all is well.
      notes: what its user should know, a sentence each.
    """

    def __init__(self, make: "Callable[[], Encoder]", most: int, metrics: Metrics):
        """Starts nothing yet.

        Args:
          make: gives the encoder; called in the thread, for it imports JAX.
          most: images that may wait.
          metrics: is told how long it takes.
        """
        self._make, self._most, self._metrics = make, most, metrics
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._pending = self._coming = 0
        self._together = 1  # images that go through the network at once
        self._lock = threading.Lock()
        self._transform: ImageTransform | None = None
        self._gauge = metrics.waiting.labels("encoding")
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self.error: str | None = None
        self.notes: tuple[str, ...] = ()
        self.on_error: Callable[[str], object] = lambda error: None

    def start(self) -> None:
        """Makes the encoder, then waits for work."""
        self._thread.start()

    def stop(self) -> None:
        """Finishes what waits."""
        self._queue.put(None)
        if self._transform is not None:  # while it is being made nothing waits
            self._thread.join()

    @property
    def transform(self) -> "ImageTransform":
        """How an image is cropped for it; a 503 problem until the network has run once."""
        if self._transform is None:
            raise busy(_STARTING)
        return self._transform

    @property
    def is_ready(self) -> bool:
        """Has the network run once?"""
        return self._transform is not None

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """While the block decodes an image, those that wait give it a moment to come along."""
        self._add_coming(1)
        try:
            yield
        finally:
            self._add_coming(-1)

    async def encode(self, crop: np.ndarray) -> np.ndarray:
        """The code, uint64 [words], of a crop uint8 [S, S, 3].

        Raises:
          Problem: 503 where too many wait, 500 where the network gives NaN.
        """
        if self._pending >= self._most:
            self._metrics.refused.inc()
            raise busy(f"{self._pending} images wait for the network; try again in a second")
        one = _Waiting(crop, Future(), time.perf_counter())
        self._count(1)
        one.code.add_done_callback(lambda done: self._count(-1))
        self._queue.put(one)
        return await asyncio.wrap_future(one.code)

    def _count(self, change: int) -> None:
        with self._lock:
            self._pending += change
            self._gauge.set(self._pending)

    def _add_coming(self, change: int) -> None:
        with self._lock:
            self._coming += change

    def _run(self) -> None:
        try:
            encoder = self._make()
            self._warm_up(encoder)
        except Exception as error:
            self.error = str(error)
            self.on_error(self.error)
            return
        self.notes = tuple(encoder.notes)
        self._transform = encoder.transform
        while batch := self._next_batch():
            taken = [one for one in batch if one.code.set_running_or_notify_cancel()]
            for first in range(0, len(taken), self._together):
                self._encode(encoder, taken[first : first + self._together])

    def _warm_up(self, encoder: "Encoder") -> None:
        """Compiles, or loads, the programs that are needed."""
        # A batch is filled up, and on a processor each of its images takes its time: tiny_32px 4 ms
        # alone and 32 ms as a batch of 8. Where every batch is filled up, all take as long as one.
        if not encoder.model.allows_small_batches:
            self._together = min(encoder.batch_size, _IMAGES)
        # Of an image that is no crop yet: what makes one of it is loaded, too.
        pixels = np.zeros((2 * encoder.transform.size + 1,) * 2 + (3,), np.uint8)
        crop = Preparation(encoder.transform).of_pixels(pixels).crop
        for count in {1, self._together}:
            encoder.fetch(encoder.start(np.stack([crop] * count), quick=True), count)

    def _next_batch(self) -> list[_Waiting]:
        """At most `_IMAGES` that wait; none once it is to stop."""
        first = self._queue.get()
        if first is None:
            return []
        batch, until = [first], time.perf_counter() + _SECONDS
        while len(batch) < _IMAGES:
            waits = self._coming and self._together > 1
            seconds = until - time.perf_counter() if waits else 0.0
            try:
                following = self._queue.get(seconds > 0, max(seconds, 0.0))
            except queue.Empty:
                return batch
            if following is None:
                self._queue.put(None)  # for the next round
                return batch
            batch.append(following)
        return batch

    def _encode(self, encoder: "Encoder", batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        for one in batch:
            self._metrics.observe("queue", started - one.since)
        self._metrics.batch_images.observe(len(batch))
        try:
            crops = np.stack([one.crop for one in batch])
            packed, is_nan = encoder.fetch(encoder.start(crops, quick=True), len(batch))
        except Exception as error:
            for one in batch:
                one.code.set_exception(error)
            return
        finally:
            self._metrics.observe("encoding", time.perf_counter() - started)
        for one, words, nan in zip(batch, to_words(packed), is_nan, strict=True):
            if nan:
                one.code.set_exception(Problem(500, f"the network gives NaN for this image, which has no code: look for a diverged training run of {encoder.model.name}"))  # fmt: skip
            else:
                one.code.set_result(words)
