"""Says how far long work has come: a bar on a terminal, elsewhere a line now and then."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Self

from tqdm import tqdm


def duration(seconds: float) -> str:
    """Such as 0:05 or 2:03:10."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A block of work that takes long, for `with`.

    Attributes:
      done: how much of it is done.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "images",
        *,
        tell: Callable[[str], object] | None = None,
        quiet: bool = False,
        first: float = 4.0,
        every: float = 30.0,
    ):
        """Prepares to tell.

        Args:
          what: what is being done, such as "encoding".
          total: how many units there are; None where that is not known.
          unit: their name.
          tell: takes a line; None prints it to standard error.
          quiet: says nothing, for all processes but the first.
          first: seconds after which a line is due; work that is done sooner needs no word.
          every: seconds between two lines.
        """
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._tell = tell or (lambda line: print(line, file=sys.stderr, flush=True))
        self._quiet = quiet
        self._first, self._every = first, every
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        on_terminal = sys.stderr.isatty() and not self._quiet
        shows_bar = on_terminal and self.total is not None
        self._bar = tqdm(
            total=self.total, desc=self.what, unit=self.unit, leave=False, disable=not shows_bar
        )
        if not (shows_bar or self._quiet):
            threading.Thread(target=self._tell_regularly, name="progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._bar.close()

    def update(self, count: int) -> None:
        """Adds what was done since the last call."""
        self.done += count
        self._bar.update(count)

    def line(self) -> str:
        """How far it is, such as "encoding: 1,280 of 60,000 images (2 %), 310 images/s, 3:09 left"."""
        seconds = time.monotonic() - self._started
        if not (self.total and self.done):
            of = f" {self.total:,} {self.unit}" if self.total else ""
            return f"{self.what}{of} ... ({duration(seconds)} so far)"
        rate = self.done / seconds
        return (
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit} "
            f"({self.done / self.total:.0%}), {rate:,.0f} {self.unit}/s, "
            f"{duration((self.total - self.done) / rate)} left"
        )

    def _tell_regularly(self) -> None:
        wait = self._first
        while not self._ended.wait(wait):
            self._tell(self.line())
            wait = self._every
