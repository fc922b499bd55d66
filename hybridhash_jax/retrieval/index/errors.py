"""What is wrong with an index, in one message."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import DataError

# Of a file that is damaged, or none of SQLite's; a table that is not there; values that there cannot
# be. SQLite's names for cases of these begin with them.
DAMAGE = (
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_ERROR",
    "SQLITE_CONSTRAINT",
    "SQLITE_MISMATCH",
)
_UNDONE = "this step is undone, and what the index had before stays"


class IndexFileError(ValueError):
    """An index is missing, damaged, in use, full, or of another model; says which, and what to do."""


def damaged(how: str = "") -> str:
    """What is said of a damaged catalogue, and what to do."""
    told = f" ({how})" if how else ""
    return f"its catalogue is damaged{told}; restore a copy, or encode the images into a new index"


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
    # SQLite's messages may hold bytes of a damaged file, which are no text.
    except (DataError, OSError, sqlite3.Error, UnicodeDecodeError) as error:
        raise IndexFileError(f"cannot {doing} the index {shown(path)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, DataError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    code = getattr(cause, "sqlite_errorname", "")
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or code == "SQLITE_FULL":
        return f"the disk is full; {_UNDONE}. Make room, and give the same command again"
    # Python's own error has no code: a text is no UTF-8.
    is_no_text = isinstance(error, UnicodeDecodeError | sqlite3.OperationalError) and not code
    if code.startswith(DAMAGE) or is_no_text:
        return damaged()
    if code.startswith("SQLITE_BUSY"):
        return "another process has kept its catalogue locked for a minute"
    if code.startswith("SQLITE_IOERR"):
        return f"the disk failed or is full; {_UNDONE}"
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return "its catalogue cannot be opened; look at the permissions of the folder"
    if isinstance(cause, OSError) and cause.strerror:
        name = os.fsdecode(cause.filename or "")
        # Of a temporary file beside, the name says nothing.
        where = f"{shown(name)}: " if name and not Path(name).name.startswith(".") else ""
        return f"{where}{cause.strerror}"
    return str(cause)
