"""The catalogue of an index, in SQLite: which segments count, and the image of each row.

Nothing in it changes what an older generation says: rows are only appended, and a tombstone bears
the number of the change that set it. So a reader that keeps the number of rows and of changes sees
one generation, however much is written meanwhile, and holds no lock. Compaction makes a new file.
"""

import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybridhash_jax.retrieval.index.errors import IndexFileError
from hybridhash_jax.retrieval.index.records import Entry
from hybridhash_jax.retrieval.names import shown

_TABLES = """
CREATE TABLE state (changes INTEGER NOT NULL);
CREATE TABLE segments (
    first_row INTEGER PRIMARY KEY, rows INTEGER NOT NULL, codes TEXT NOT NULL, hashes TEXT);
CREATE TABLE labels (label INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE rows (
    row INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    label INTEGER NOT NULL);
CREATE TABLE tombstones (row INTEGER PRIMARY KEY, change INTEGER NOT NULL);
CREATE TABLE backends (
    backend TEXT, dtype TEXT, images INTEGER, differing_bits INTEGER,
    PRIMARY KEY (backend, dtype));
INSERT INTO state VALUES (0);
"""
_LOOKUPS = """
CREATE INDEX rows_by_path ON rows (path);
CREATE INDEX rows_by_label ON rows (label);
"""
WAIT_SECONDS = 60.0  # for another process that is just reading or committing
_CACHE_KIB = 64 * 1024
_AT_ONCE = 900  # SQLite takes at least 999 values a query
# Of one path at most one row has no tombstone.
ALIVE = "NOT EXISTS (SELECT 1 FROM tombstones WHERE tombstones.row = rows.row)"


class SegmentRecord(NamedTuple):
    """A segment as the catalogue lists it."""

    first_row: int
    rows: int
    codes: str
    hashes: str | None


class Known(NamedTuple):
    """What tells whether a file is the one that was encoded."""

    row: int
    size: int
    modified_ns: int


def create(path: Path, *, with_lookups: bool = True) -> sqlite3.Connection:
    """A new, empty catalogue, which the caller fills and closes.

    Args:
      path: of the file, which nobody else knows yet.
      with_lookups: False leaves them to `add_lookups`, which is faster after many rows.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    # It is nobody's yet: whoever makes it syncs the file before it is listed.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(_TABLES + (_LOOKUPS if with_lookups else ""))
    return connection


def add_lookups(connection: sqlite3.Connection) -> None:
    """Makes paths and labels fast to find."""
    connection.executescript(_LOOKUPS)


def connect(path: Path, *, to_write: bool = False) -> sqlite3.Connection:
    """Opens a catalogue that is there; FileNotFoundError where it is not."""
    if not path.exists():
        raise FileNotFoundError(2, os.strerror(2), os.fspath(path))
    # A reader, too, may have to undo what a killed writer left half done.
    mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        timeout=WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # `Index` lets one thread in at a time
    )
    connection.execute(f"PRAGMA query_only = {int(not to_write)}")
    if to_write:
        connection.execute("PRAGMA synchronous = FULL")
        # What a change touches stays in memory until it is committed.
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _quoted(path: Path) -> str:
    """As in an URI: every byte that is no plain letter as %XX."""
    plain = b"/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
    raw = os.fsencode(path.absolute())
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in raw)


def segments(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """All of them, in the order of their rows."""
    found = connection.execute("SELECT first_row, rows, codes, hashes FROM segments ORDER BY 1")
    return [SegmentRecord(*record) for record in found]


def last_segment(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """The one that ends with the last row, in a list; empty where there is none."""
    query = "SELECT first_row, rows, codes, hashes FROM segments ORDER BY 1 DESC LIMIT 1"
    return [SegmentRecord(*record) for record in connection.execute(query)]


def listed_files(connection: sqlite3.Connection) -> set[str]:
    """The names in `segments/` that count."""
    records = segments(connection)
    return {name for record in records for name in (record.codes, record.hashes) if name}


def changes(connection: sqlite3.Connection) -> int:
    """How often something was committed since the catalogue was made."""
    return connection.execute("SELECT changes FROM state").fetchone()[0]


def entries(connection: sqlite3.Connection, rows: Sequence[int]) -> list[Entry]:
    """The images of some rows, in the order given; IndexFileError for a row that there is not."""
    found: dict[int, Entry] = {}
    for some in _parts(sorted(set(rows))):
        answer = connection.execute(
            "SELECT row, path, size, modified_ns, width, height, name FROM rows"
            f" JOIN labels USING (label) WHERE row IN ({','.join('?' * len(some))})",
            some,
        )
        found.update((row, Entry(*rest, label=os.fsdecode(name))) for row, *rest, name in answer)
    missing = [row for row in rows if row not in found]
    if missing:
        raise IndexFileError(f"the index has no row {missing[0]}")
    return [found[row] for row in rows]


def entries_by_path(connection: sqlite3.Connection, num_rows: int) -> Iterator[tuple[int, Entry]]:
    """Rows before `num_rows` and their images, dead ones among them, in the order of paths."""
    found = connection.execute("SELECT label, name FROM labels")
    labels = {label: os.fsdecode(name) for label, name in found}
    query = (
        "SELECT row, label, path, size, modified_ns, width, height FROM rows"
        " INDEXED BY rows_by_path WHERE row < ? ORDER BY path"
    )
    for row, label, *rest in connection.execute(query, (num_rows,)):
        yield row, Entry(*rest, label=labels[label])


def add_rows(connection: sqlite3.Connection, first: int, added: Iterable[Entry]) -> int:
    """Appends rows from `first` on; returns how many."""
    known = {name: label for label, name in connection.execute("SELECT label, name FROM labels")}

    def records() -> Iterator[tuple[int | bytes, ...]]:
        for row, entry in enumerate(added, first):
            name = os.fsencode(entry.label)
            if name not in known:
                known[name] = len(known)
                connection.execute("INSERT INTO labels VALUES (?, ?)", (known[name], name))
            size = (entry.size, entry.modified_ns, entry.width, entry.height)
            yield (row, entry.path, *size, known[name])

    cursor = connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", records())
    return cursor.rowcount


def alive_rows(connection: sqlite3.Connection, paths: Iterable[bytes]) -> list[int]:
    """The rows without a tombstone of some paths, in no order; paths not there are passed over."""
    found: list[int] = []
    remaining = iter(paths)
    while some := list(itertools.islice(remaining, _AT_ONCE)):
        places = ",".join("?" * len(some))
        query = f"SELECT row FROM rows WHERE path IN ({places}) AND {ALIVE}"
        found += [row for (row,) in connection.execute(query, some)]
    return found


def count_rows(records: Sequence[SegmentRecord]) -> int:
    """How many rows segments have that lie one behind the other."""
    return records[-1].first_row + records[-1].rows if records else 0


def check_segments(path: Path, records: Sequence[SegmentRecord]) -> None:
    """IndexFileError where a row would be in no segment, or in two."""
    expected = 0
    for record in records:
        if record.first_row != expected:
            raise IndexFileError(f"the catalogue of {shown(path)} is damaged: its rows have a gap")
        expected += record.rows


def problems(connection: sqlite3.Connection, path: Path) -> list[str]:
    """What is wrong in the whole catalogue, a sentence each."""
    connection.execute("BEGIN")  # a writer may be at work
    found = [text for (text,) in connection.execute("PRAGMA integrity_check(5)") if text != "ok"]
    count, last = connection.execute("SELECT count(*), max(row) FROM rows").fetchone()
    expected = count_rows(last_segment(connection))
    twice = connection.execute(
        f"SELECT path FROM rows WHERE {ALIVE} GROUP BY path HAVING count(*) > 1 LIMIT 5"
    ).fetchall()
    connection.execute("COMMIT")
    if (count, last if count else -1) != (expected, expected - 1):
        found.append(f"it lists {count:,} images, and segments of {expected:,}")
    found += [f"{shown(name)} is in it twice" for (name,) in twice]
    return [f"{shown(path)} is damaged: {text}" for text in found]


def _parts(rows: Sequence[int]) -> Iterator[list[int]]:
    for first in range(0, len(rows), _AT_ONCE):
        yield [int(row) for row in rows[first : first + _AT_ONCE]]
