"""What the program says to the person who runs it: plain lines that a progress bar survives."""

import logging
import sys

from tqdm import tqdm

logger = logging.getLogger("hybridhash_jax")


class _Handler(logging.Handler):
    """Writes through tqdm, so that a line does not tear the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else record.levelname.lower() + ": "
        tqdm.write(prefix + record.getMessage(), file=sys.stdout)
        sys.stdout.flush()


def set_up(*, quiet: bool = False) -> None:
    """Sends the package's messages to standard output; `quiet` (other processes): warnings only."""
    # What asyncio logs of a failed save is reported as a CheckpointError already.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logger.handlers = [_Handler()]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
