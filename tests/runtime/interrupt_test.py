"""Several processes stop together, soon after a signal to any of them, at little cost."""

import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from hybridhash_jax.runtime import interrupt
from hybridhash_jax.runtime.interrupt import StopRequest


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Peer:
    """The other of two processes: what it answers, and when it was asked."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.signal_number = 0
        self.seconds_per_step = 0.0
        self.asked_at: list[float] = []

    def gather(self, own: np.ndarray) -> np.ndarray:
        self.asked_at.append(self.clock.now)
        answer = np.asarray([self.signal_number, self.seconds_per_step], own.dtype)
        return np.stack([own, answer])


@pytest.fixture
def pair(monkeypatch) -> tuple[Clock, Peer]:
    clock = Clock()
    peer = Peer(clock)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", peer.gather)
    monkeypatch.setattr(interrupt.time, "monotonic", clock.monotonic)
    return clock, peer


def run(stop: StopRequest, clock: Clock, steps: int, seconds: float) -> int | None:
    """The step at which the run would stop."""
    for step in range(steps):
        if stop.requested(step):
            return step
        clock.now += seconds
    return None


@pytest.mark.parametrize("seconds", [0.001, 0.1, 1.0, 2.9, 20.0])
def test_a_signal_to_another_process_is_heard_within_seconds_or_a_step(pair, seconds):
    clock, peer = pair
    stop = StopRequest(compare_every_seconds=3.0)
    assert run(stop, clock, 500, seconds) is None
    peer.signal_number, told = signal.SIGTERM, clock.now
    assert run(stop, clock, 500, seconds) is not None
    assert clock.now - told <= max(3.0, seconds) + 1e-6
    with pytest.raises(interrupt.Interrupted) as stopped:
        stop.raise_interrupted(7, Path("w"))
    assert stopped.value.exit_code == 143


def test_fast_steps_are_compared_rarely(pair):
    clock, peer = pair
    run(StopRequest(compare_every_seconds=3.0), clock, 2000, 0.01)
    assert 2000 / 20 <= len(peer.asked_at) <= 2 + 2000 / 20


def test_the_slowest_process_sets_the_pace(pair):
    clock, peer = pair
    peer.seconds_per_step = 1.5
    run(StopRequest(compare_every_seconds=3.0), clock, 20, 0.01)
    assert len(peer.asked_at) == 10


def test_once_agreed_it_stays_so_without_asking(pair):
    _, peer = pair
    stop = StopRequest()
    stop.signal_number = signal.SIGINT
    assert stop.requested(0)
    asked = len(peer.asked_at)
    assert stop.requested(0)
    assert stop.requested_while_evaluating(0)
    assert len(peer.asked_at) == asked


def test_quick_batches_of_an_evaluation_do_not_slow_the_pace_of_steps(pair):
    clock, peer = pair
    stop = StopRequest(compare_every_seconds=3.0)
    run(stop, clock, 20, 1.0)
    for _ in range(500):
        assert not stop.requested_while_evaluating(20)
        clock.now += 0.001
    peer.signal_number, told = signal.SIGTERM, clock.now
    assert run(stop, clock, 20, 1.0) is not None
    assert clock.now - told <= 3.0
