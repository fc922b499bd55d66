"""What /metrics shows, in Prometheus's format."""

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and times of one service."""

    def __init__(self):
        """All of them begin at zero."""
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "hybridhash_requests", "Requests answered", ("method", "route", "status"), registry=own
        )
        self.request_seconds = Histogram(
            "hybridhash_request_seconds", "From a request's head to the end of its answer",
            ("route",), buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._stages = Histogram(
            "hybridhash_stage_seconds",
            "Of one image: decoding; waiting for the network (queue), the network itself, of a batch"
            " (encoding); comparing with all codes (scanning)",
            ("stage",), buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self.batch_images = Histogram(
            "hybridhash_batch_images", "Images of one pass through the network",
            buckets=(1, 2, 4, 8, 12, 16), registry=own,
        )  # fmt: skip
        self.waiting = Gauge(
            "hybridhash_waiting", "Work that was taken on and is not done", ("pool",), registry=own
        )
        self.refused = Counter(
            "hybridhash_refused", "Requests sent away because too much waited", registry=own
        )
        self.generation = Gauge("hybridhash_index_generation", "Served generation", registry=own)
        self.images = Gauge("hybridhash_index_images", "Images that are searched", registry=own)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures "decoding", "encoding", "scanning" or "queue"."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(name, time.perf_counter() - started)

    def observe(self, stage: str, seconds: float) -> None:
        """As `stage`, where the time is known."""
        self._stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
