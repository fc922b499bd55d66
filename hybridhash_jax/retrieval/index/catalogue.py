"""The catalogue of an index, in SQLite: which segments count, and the image of each row.

Nothing in it changes what an older generation says: rows are only appended, and a tombstone bears
the number of the change that set it. So a reader that keeps the number of rows and of changes sees
one generation, however much is written meanwhile, and holds no lock. Compaction makes a new file.
"""

import contextlib
import functools
import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from hybridhash_jax.retrieval.index.errors import damaged
from hybridhash_jax.retrieval.index.header import is_plain
from hybridhash_jax.retrieval.index.records import Entry
from hybridhash_jax.retrieval.names import shown
from input_pipeline.messages import counted

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
_FACTS = ("size", "modified_ns", "width", "height")
# Columns with their types and keys, and what the lookups are of.
_COLUMNS = """
SELECT kind.name, one.name, one.type, one."notnull", one.pk
    FROM sqlite_master AS kind, pragma_table_info(kind.name) AS one
UNION ALL SELECT kind.name, one.name, one.seqno, 0, 0
    FROM sqlite_master AS kind, pragma_index_info(kind.name) AS one
"""
_IMPOSSIBLE = f"""
SELECT count(*) FROM rows WHERE typeof(path) <> 'blob' OR width < 0 OR height < 0
    OR {" OR ".join(f"typeof({fact}) <> 'integer'" for fact in _FACTS)}
"""
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
    """The names in `segments/` that count; sqlite3.DatabaseError as `sound_segments`."""
    records = sound_segments(connection)
    return {name for record in records for name in (record.codes, record.hashes) if name}


def changes(connection: sqlite3.Connection) -> int:
    """How often something was committed since the catalogue was made."""
    found = connection.execute("SELECT changes FROM state").fetchone()
    if found is None or not isinstance(found[0], int):
        raise sqlite3.DatabaseError(damaged())
    return found[0]


def dead_rows(connection: sqlite3.Connection, num_rows: int) -> Int64[np.ndarray, " n"]:
    """The rows with a tombstone."""
    found = connection.execute("SELECT row FROM tombstones").fetchall()
    rows = range(num_rows)
    if any(row not in rows for (row,) in found):
        raise sqlite3.DatabaseError(damaged())
    return np.fromiter((row for (row,) in found), np.int64, len(found))


def entries(connection: sqlite3.Connection, rows: Sequence[int]) -> list[Entry]:
    """The images of some rows, in the order given; sqlite3.DatabaseError where one is not listed."""
    found: dict[int, Entry] = {}
    for some in parts(sorted(set(rows))):
        answer = connection.execute(
            "SELECT row, path, size, modified_ns, width, height, name FROM rows"
            f" LEFT JOIN labels USING (label) WHERE row IN ({','.join('?' * len(some))})",
            some,
        )
        found.update((row, _entry(*rest)) for row, *rest in answer)
    if any(row not in found for row in rows):
        raise sqlite3.DatabaseError(damaged())
    return [found[row] for row in rows]


def entries_by_path(connection: sqlite3.Connection, num_rows: int) -> Iterator[tuple[int, Entry]]:
    """Rows before `num_rows` and their images, dead ones among them, in the order of paths."""
    labels = dict(connection.execute("SELECT label, name FROM labels"))
    query = (
        "SELECT row, label, path, size, modified_ns, width, height FROM rows"
        " INDEXED BY rows_by_path WHERE row >= 0 AND row < ? ORDER BY path"
    )
    for row, label, *rest in connection.execute(query, (num_rows,)):
        yield row, _entry(*rest, label=labels.get(label))


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


def sound_segments(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """As `segments`; sqlite3.DatabaseError where what is seen at once is damaged."""
    if set(connection.execute(_COLUMNS)) != _expected_columns():
        raise sqlite3.DatabaseError(damaged("its tables are not those of an index"))
    records = segments(connection)
    expected = 0
    for record in records:
        if record.first_row != expected or not isinstance(record.rows, int) or record.rows < 0:
            raise sqlite3.DatabaseError(damaged("its rows have a gap"))
        if not (is_plain(record.codes) and (record.hashes is None or is_plain(record.hashes))):
            raise sqlite3.DatabaseError(damaged("a segment has no name of a file"))
        expected += record.rows
    (last,) = connection.execute("SELECT max(row) FROM rows").fetchone()
    if (-1 if last is None else last) != expected - 1:
        raise sqlite3.DatabaseError(damaged("its last image is not that of the last segment"))
    return records


@functools.cache
def _expected_columns() -> set[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_TABLES + _LOOKUPS)
        return set(connection.execute(_COLUMNS))


def backends(connection: sqlite3.Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """What `Writer.note_backend` noted: images and differing bits by backend and dtype."""
    found = connection.execute("SELECT * FROM backends ORDER BY 1, 2").fetchall()
    if any(list(map(type, one)) != [str, str, int, int] for one in found):
        raise sqlite3.DatabaseError(damaged())
    return {(backend, dtype): (images, bits) for backend, dtype, images, bits in found}


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong in the whole catalogue, in some words each."""
    connection.execute("BEGIN")  # a writer may be at work
    checked = [text for (text,) in connection.execute("PRAGMA integrity_check(5)")]
    # Several lines at once; one only says in which database.
    found = [
        line for text in checked for line in text.splitlines() if line[:3] not in ("ok", "***")
    ]
    query = "SELECT count(*), min(row), max(row) FROM rows"
    count, first, last = connection.execute(query).fetchone()
    expected = count_rows(last_segment(connection))
    twice = connection.execute(
        f"SELECT path FROM rows WHERE {ALIVE} GROUP BY path HAVING count(*) > 1 LIMIT 5"
    ).fetchall()
    query = "SELECT count(*) FROM rows WHERE label NOT IN (SELECT labels.label FROM labels)"
    (unlabelled,) = connection.execute(query).fetchone()
    (impossible,) = connection.execute(_IMPOSSIBLE).fetchone()
    connection.execute("COMMIT")
    if (count, *((first, last) if count else (0, -1))) != (expected, 0, expected - 1):
        found.append(f"it lists {count:,} images, and segments of {expected:,}")
    if unlabelled:
        found.append(f"it does not list the labels of {counted(unlabelled, 'image')}")
    if impossible:
        found.append(f"it lists {counted(impossible, 'image')} with facts that cannot be")
    found += [f"{shown(blob(name))} is in it twice" for (name,) in twice]
    return found


def blob(value: object) -> bytes:
    """A path or a name, which SQLite lets be nothing else unless its file is damaged."""
    if not isinstance(value, bytes):
        raise sqlite3.DatabaseError(damaged())
    return value


def _entry(
    path: object, size: int, modified_ns: int, width: int, height: int, label: object
) -> Entry:
    if any(type(fact) is not int for fact in (size, modified_ns, width, height)):
        raise sqlite3.DatabaseError(damaged())
    return Entry(blob(path), size, modified_ns, width, height, os.fsdecode(blob(label)))


def parts(rows: Sequence[int]) -> Iterator[list[int]]:
    """Rows in lists that fit into a query."""
    for first in range(0, len(rows), _AT_ONCE):
        yield [int(row) for row in rows[first : first + _AT_ONCE]]
