"""What the program says to the person who runs it: plain lines that a progress bar survives."""

import contextlib
import logging
import select
import sys
import time
from collections.abc import Iterator

import jax
from tqdm import tqdm

from input_pipeline.progress import Progress

logger = logging.getLogger("hybridhash_jax")


class _Handler(logging.Handler):
    """Writes through tqdm, so that a line does not tear the progress bar.

    A line that nobody takes for `patience` seconds is dropped, and so are those after it until
    somebody does: a pipe that is full would stop the run otherwise.
    """

    def __init__(self, patience: float):
        super().__init__()
        self.patience = self._wait = patience

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_writable(self._wait):
            self._wait = 0.0
            return
        self._wait = self.patience
        prefix = "" if record.levelno < logging.WARNING else record.levelname.lower() + ": "
        if not sys.stdout.isatty():  # a log: when was it?
            prefix = time.strftime("%H:%M:%S ") + prefix
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone stops no run
            tqdm.write(prefix + record.getMessage(), file=sys.stdout)
            sys.stdout.flush()


def _is_writable(seconds: float) -> bool:
    """Does standard output take a line within so many seconds? Yes where that cannot be asked."""
    try:
        return bool(select.select([], [sys.stdout.fileno()], [], seconds)[1])
    except (OSError, ValueError):  # no file descriptor, as in a notebook
        return True


def progress(what: str, total: int | None = None, unit: str = "images") -> Progress:
    """Tells in the log how far long work is, in the first process; see `Progress`."""
    return Progress(what, total, unit, tell=logger.info, quiet=jax.process_index() > 0)


@contextlib.contextmanager
def quieter(least: int = logging.WARNING) -> Iterator[None]:
    """Inside the block, what is less than a warning (or `least`) is not said."""
    before = logger.level
    logger.setLevel(max(before, least))
    try:
        yield
    finally:
        logger.setLevel(before)


def set_up(*, quiet: bool = False, patience: float = 10.0) -> None:
    """Sends the package's messages to standard output; `quiet` (other processes): warnings only."""
    # What asyncio logs of a failed save is reported as a CheckpointError already.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logger.handlers = [_Handler(patience)]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
