"""Small pictures beside an index: a cache of limited size, which may be lost without harm."""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybridhash_jax.retrieval.index.errors import DAMAGE

MAX_BYTES = 512 * 2**20
# SQLite's messages may hold bytes of a damaged file, which are no text.
_ERRORS = (sqlite3.Error, OSError, UnicodeDecodeError)
_TABLES = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = TRUNCATE;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS thumbnails (
    number INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL UNIQUE, jpeg BLOB NOT NULL);
"""


def load(file: Path, path: bytes) -> bytes | None:
    """The JPEG of a path; None where there is none, or the cache is gone or damaged."""
    if not file.exists():
        return None
    with contextlib.suppress(*_ERRORS), _opened(file) as connection:
        found = connection.execute("SELECT jpeg FROM thumbnails WHERE path = ?", (path,)).fetchone()
        return found[0] if found else None
    return None


def keep(
    file: Path, pictures: Iterable[tuple[bytes, bytes | None]], max_bytes: int = MAX_BYTES
) -> str | None:
    """Keeps a JPEG, or forgets it where None is given, for each path; the oldest ones go first.

    Returns why they could not be kept: nothing makes them again unless their images are encoded
    again. None where they are kept. A cache that a full disk leaves larger than it was is removed:
    codes need the room.
    """
    changes = list(pictures)
    if not (file.exists() or any(jpeg for _, jpeg in changes)):
        return None
    reason = ""
    for _ in range(2):
        before = _size(file)
        try:
            with _opened(file, seconds=60) as connection:
                connection.executescript(_TABLES)
                connection.execute("BEGIN IMMEDIATE")
                _change(connection, changes, max_bytes)
                connection.execute("COMMIT")
                return None
        except _ERRORS as error:
            reason = str(error)
            is_damage = _is_damage(error)
            if is_damage or _size(file) > before:
                for one in (file, file.with_name(f"{file.name}-journal")):
                    with contextlib.suppress(OSError):
                        one.unlink()
            if not is_damage:
                break  # a full disk, say
    return reason


def is_damaged(file: Path) -> bool:
    """Is the cache there, but not a whole file of SQLite?"""
    if not file.exists():
        return False
    try:
        with _opened(file) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return _is_damage(error)


def all_in(file: Path) -> Iterator[tuple[bytes, bytes]]:
    """All (path, JPEG) that are kept, the oldest first; ends early where the cache is damaged."""
    if file.exists():
        with contextlib.suppress(*_ERRORS), _opened(file) as connection:
            yield from connection.execute("SELECT path, jpeg FROM thumbnails ORDER BY number")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):
        return True
    return getattr(error, "sqlite_errorname", "").startswith(DAMAGE)


@contextlib.contextmanager
def _opened(file: Path, seconds: float = 5) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(
        sqlite3.connect(os.fspath(file), timeout=seconds, isolation_level=None)
    ) as connection:
        yield connection


def _change(
    connection: sqlite3.Connection, changes: list[tuple[bytes, bytes | None]], max_bytes: int
) -> None:
    connection.executemany("DELETE FROM thumbnails WHERE path = ?", ((p,) for p, _ in changes))
    kept = ((path, jpeg) for path, jpeg in changes if jpeg)
    connection.executemany("INSERT INTO thumbnails (path, jpeg) VALUES (?, ?)", kept)
    while (excess := _bytes(connection) - max_bytes) > 0:
        # Half of the excess at least: thumbnails are of one size, more or less.
        count = connection.execute("SELECT count(*) FROM thumbnails").fetchone()[0]
        if not count:
            return
        going = max(1, count * excess // (2 * _bytes(connection)))
        connection.execute(
            "DELETE FROM thumbnails WHERE number IN"
            " (SELECT number FROM thumbnails ORDER BY number LIMIT ?)",
            (going,),
        )


def _bytes(connection: sqlite3.Connection) -> int:
    """What the pictures take; free pages are used again."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
