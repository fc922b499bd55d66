"""What is wrong with an index, in one message."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import DataError

DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")  # of a file that is damaged, or none of SQLite's


class IndexFileError(ValueError):
    """An index is missing, damaged, in use, full, or of another model; says which, and what to do."""


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Errors of the disk and of SQLite inside the block become one `IndexFileError`.

    Args:
      path: the folder of the index.
      doing: "read" or "write".
    """
    try:
        yield
    except IndexFileError:
        raise
    except (DataError, OSError, sqlite3.Error) as error:
        raise IndexFileError(f"cannot {doing} the index {shown(path)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, DataError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    code = getattr(cause, "sqlite_errorname", "")
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or code == "SQLITE_FULL":
        return "the disk is full; nothing of this was kept, so make room and start again"
    if code in DAMAGE:
        return "its catalogue is damaged; restore a copy, or encode the images into a new index"
    if code.startswith("SQLITE_BUSY"):
        return "another process has kept its catalogue locked for a minute"
    if code.startswith("SQLITE_IOERR"):
        return "the disk failed or is full; nothing of this was kept"
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return "its catalogue cannot be opened; look at the permissions of the folder"
    if isinstance(cause, OSError) and cause.strerror:
        name = os.fsdecode(cause.filename or "")
        # Of a temporary file beside, the name says nothing.
        where = f"{shown(name)}: " if name and not Path(name).name.startswith(".") else ""
        return f"{where}{cause.strerror}"
    return str(cause)
