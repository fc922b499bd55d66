"""Stopping a run on SIGTERM or Ctrl-C without losing a step."""

import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

import jax
import numpy as np


class Interrupted(Exception):
    """The run was asked to stop, and saved its state first.

    Attributes:
      exit_code: 128 + the signal's number, as shells and schedulers expect.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class StopRequest:
    """Remembers a SIGTERM or SIGINT until the loop asks; a second Ctrl-C stops at once.

    With several processes, all agree on the step at which to stop: they compare every
    `agree_every_steps` steps.
    """

    def __init__(self, agree_every_steps: int = 20):
        self.signal_number: int | None = None
        self.agree_every_steps = agree_every_steps

    def install(self) -> Self:
        """Takes over SIGTERM and SIGINT."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number

    def requested(self, step: int) -> bool:
        """Should the run stop at this step? The same answer in every process."""
        if jax.process_count() == 1:
            return self.signal_number is not None
        if step % self.agree_every_steps:
            return False
        from jax.experimental import multihost_utils

        own = np.asarray(self.signal_number or 0, np.int32)
        number = int(np.max(multihost_utils.process_allgather(own)))
        self.signal_number = number or None
        return number != 0

    def raise_interrupted(self, step: int, directory: Path) -> NoReturn:
        """Ends the run after its state was saved."""
        number = self.signal_number or signal.SIGTERM
        name = signal.Signals(number).name
        raise Interrupted(
            f"stopped by {name} after step {step}; the state is saved in {directory}. "
            "Start the same command again to go on.",
            128 + number,
        )
