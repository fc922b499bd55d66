"""Stopping a run on SIGTERM or Ctrl-C without losing a step."""

import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from input_pipeline import signals

# However fast the calls are: the next ones may be slow.
_MOST_CALLS = 20


class Interrupted(Exception):
    """The run was asked to stop, and saved its state first.

    `exit_code` is 128 + the signal's number, as shells and schedulers expect.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class _Pace:
    """Says at which calls processes compare: about every `seconds`, and at every call at first.

    Every process makes the same calls and hears the same `slowest`, so all say the same.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._wait = 0  # calls until the next comparison
        self._calls = 0  # since the last one
        self._since: float | None = None

    def is_due(self) -> bool:
        """Counts a call: should this one compare?"""
        self._calls += 1
        self._wait -= 1
        return self._wait <= 0

    def seconds_per_call(self) -> float:
        """This process's own, since the last comparison; 0 before the first."""
        now, since = time.monotonic(), self._since
        return 0.0 if since is None else (now - since) / self._calls

    def compared(self, slowest: float) -> None:
        """Plans the next comparison by the `seconds_per_call` of the slowest process."""
        calls = int(self.seconds / slowest) if slowest > 0 else 1
        self._wait = min(max(calls, 1), _MOST_CALLS)
        self._calls, self._since = 0, time.monotonic()


class StopRequest:
    """Remembers a SIGTERM or SIGINT until the loop asks; a second Ctrl-C stops at once.

    With several processes, all stop at the same step if any of them was asked to. They compare
    about every `compare_every_seconds`, at least every 20 steps, and after every step that takes
    longer: schedulers grant 30 seconds and more between the signal and the end.
    """

    def __init__(self, compare_every_seconds: float = 3.0, end: signals.Answer = signals.end):
        """`end` ends the process, given the signal's number."""
        self.signal_number: int | None = None
        self._end = end
        self._agreed = False
        # Batches of an evaluation take another time than steps.
        self._steps = _Pace(compare_every_seconds)
        self._batches = _Pace(compare_every_seconds)

    def heard(self) -> AbstractContextManager[None]:
        """SIGTERM and SIGINT are remembered inside the block, in the main thread."""
        return signals.answered_by(self._on_signal)

    def _on_signal(self, number: int) -> None:
        if self.signal_number is not None:
            if number == signal.SIGINT:
                self._end(number)
            return
        self.signal_number = number
        signals.say("stopping after this step, then saving; Ctrl-C again stops now")

    def requested(self, step: int) -> bool:
        """Should the run stop at this step? The same answer in every process."""
        return self._requested(self._steps)

    def requested_while_evaluating(self, step: int) -> bool:
        """The same, asked before each batch of an evaluation."""
        return self._requested(self._batches)

    def _requested(self, pace: _Pace) -> bool:
        if jax.process_count() == 1:
            return self.signal_number is not None
        if not self._agreed and pace.is_due():
            self._compare(pace)
        return self._agreed

    def _compare(self, pace: _Pace) -> None:
        from jax.experimental import multihost_utils

        own = np.asarray([self.signal_number or 0, pace.seconds_per_call()], np.float32)
        number, slowest = np.max(multihost_utils.process_allgather(own), axis=0)
        pace.compared(float(slowest))
        if number:
            self.signal_number, self._agreed = int(number), True

    def raise_interrupted(self, step: int, directory: Path) -> NoReturn:
        """Ends the run after its state was saved."""
        number = self.signal_number or signal.SIGTERM
        name = signal.Signals(number).name
        raise Interrupted(
            f"stopped by {name} after step {step}; the state is saved in {directory}. "
            "Start the same command again to go on.",
            128 + number,
        )
