"""What went wrong: data that are wrong, a system that failed, or what only tells of a run."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator

from hybridhash_jax.runtime.console import logger

# What TensorStore says of a file that is missing, cut short, or does not unpack.
_DAMAGE = re.compile(r"\b(DATA_LOSS|NOT_FOUND|OUT_OF_RANGE|FAILED_PRECONDITION)\b")
_CAUSE = re.compile(r"(?:OS error |\[Errno |os_error_code=')(\d+)")
_FULL = (errno.ENOSPC, errno.EDQUOT)


_SAID: set[str] = set()


def is_damage(error: BaseException) -> bool:
    """Were data read, and are they wrong? Not so if the system, or memory, failed on the way."""
    chain = list(_chain(error))
    if any(isinstance(one, MemoryError | UnicodeEncodeError) for one in chain):
        return False
    missing = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR)
    if (number := _number(error)) is not None and number not in missing:
        return False
    wrong = (json.JSONDecodeError, UnicodeDecodeError, FileNotFoundError, IsADirectoryError)
    return any(isinstance(one, wrong) or _DAMAGE.search(str(one)) for one in chain)


def is_full_disk(error: BaseException) -> bool:
    """Did a write fail because there is no room?"""
    return _number(error) in _FULL or "No space left" in str(error)


def reason(error: BaseException) -> str:
    """Why something failed, in few words of the system's rather than a library's."""
    number = _number(error)
    if number is not None:
        return os.strerror(number)
    if any(isinstance(one, MemoryError) for one in _chain(error)):
        return "not enough memory"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _number(error: BaseException) -> int | None:
    """The system's number of what went wrong, also out of TensorStore's text."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno:
            return one.errno
        if match := _CAUSE.search(str(one)):
            return int(match[1])
    return None


@contextlib.contextmanager
def only_tells(what: str) -> Iterator[None]:
    """Lets a failure of the block pass, and says once that `what` could not be written."""
    try:
        yield
    except Exception as error:
        if what not in _SAID:
            _SAID.add(what)
            logger.warning("%s could not be written (%s); the run goes on", what, reason(error))
