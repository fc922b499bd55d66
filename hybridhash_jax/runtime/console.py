"""What the program says to the person who runs it: plain lines that a progress bar survives."""

import contextlib
import logging
import sys
import time

import jax
from tqdm import tqdm

from input_pipeline.progress import Progress

logger = logging.getLogger("hybridhash_jax")


class _Handler(logging.Handler):
    """Writes through tqdm, so that a line does not tear the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else record.levelname.lower() + ": "
        if not sys.stdout.isatty():  # a log: when was it?
            prefix = time.strftime("%H:%M:%S ") + prefix
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone stops no run
            tqdm.write(prefix + record.getMessage(), file=sys.stdout)
            sys.stdout.flush()


def progress(what: str, total: int | None = None, unit: str = "images") -> Progress:
    """Tells in the log how far long work is, in the first process; see `Progress`."""
    return Progress(what, total, unit, tell=logger.info, quiet=jax.process_index() > 0)


def set_up(*, quiet: bool = False) -> None:
    """Sends the package's messages to standard output; `quiet` (other processes): warnings only."""
    # What asyncio logs of a failed save is reported as a CheckpointError already.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logger.handlers = [_Handler()]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
