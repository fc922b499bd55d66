"""An index as a reader sees it: one generation, whatever is written meanwhile."""

import contextlib
import dataclasses
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

from hybridhash_jax.retrieval.index import catalogue, filters, storage, thumbnails
from hybridhash_jax.retrieval.index.errors import IndexFileError, explained
from hybridhash_jax.retrieval.index.filters import Where, conditions
from hybridhash_jax.retrieval.index.header import Header, digest, read_header
from hybridhash_jax.retrieval.index.records import Entry
from hybridhash_jax.retrieval.index.words import to_packed, words_of
from hybridhash_jax.retrieval.names import shown

# Up to so many bytes of codes, and their hashes, are read whole when an index is opened, which takes
# a third of a second, to find damage; of more only the size of the files is looked at.
_CHECKED_BYTES = 256 * 2**20
_TRIES = 10


@dataclasses.dataclass(frozen=True)
class Segment:
    """Codes of rows that lie one behind the other.

    Attributes:
      name: of its file in `segments/`.
      first_row: the row of its first code.
      codes: uint64 [n, words], memory-mapped.
      hashes: perceptual hashes, uint64 [n], memory-mapped; None where there are none.
    """

    name: str
    first_row: int
    codes: UInt64[np.ndarray, "n words"]
    hashes: UInt64[np.ndarray, " n"] | None


class Index:
    """One generation of an index, read-only; `open_index` makes it.

    `len(index)` is the number of rows that are searched. It may be used by several threads.

    Attributes:
      path: its folder.
      model: that made the codes.
      root: the folder that paths are relative to; None where there is none.
      header: what index.json says.
      generation: how often something was committed.
      num_rows: rows since the last compaction, those without a living image included; a row number
        is a place in that order.
      words: uint64 words a code; see `to_words`.
      segments: in the order of their rows, without damaged ones.
      alive: bool [num_rows]; False for tombstones and for damaged segments.
      damaged: names of files in `segments/` that were left out. Those of images that are gone or
        were encoded again are not worth telling.
      backends: (backend, dtype) of encoders that were compared with the model's own: images, and
        differing bits, see `Writer.note_backend`.
    """

    def __init__(self, path: Path, header: Header, connection: sqlite3.Connection, read_all: bool):
        """Reads the catalogue and maps the segments; `open_index` is what others call."""
        self.path, self.model, self.root = path, header.model, header.root
        self.words = words_of(self.model.bits)
        self.header, self._connection = header, connection
        self._lock = threading.Lock()
        connection.execute("BEGIN")  # so that all of it is of one generation
        self._changes = catalogue.changes(connection)
        records = catalogue.sound_segments(connection)
        dead = catalogue.dead_rows(connection, catalogue.count_rows(records))
        self.backends: Mapping[tuple[str, str], tuple[int, int]]
        self.backends = catalogue.backends(connection)
        connection.execute("COMMIT")
        self.generation = header.generation + self._changes
        self.num_rows = catalogue.count_rows(records)
        self.alive: Bool[np.ndarray, " num_rows"] = np.ones(self.num_rows, bool)
        self.alive[dead] = False
        self.damaged: tuple[str, ...] = ()
        self._whole = self.alive.copy()  # and with its perceptual hash
        self.segments: tuple[Segment, ...] = self._map(records, read_all)
        self._count = int(np.count_nonzero(self.alive))

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the catalogue; codes that are mapped stay."""
        self._connection.close()

    def entries(self, rows: Sequence[int] | Int64[np.ndarray, " m"]) -> list[Entry]:
        """The images of some rows, in their order; IndexFileError for a row there is not."""
        wanted = [int(row) for row in rows]
        if lacking := [row for row in wanted if row not in range(self.num_rows)]:
            raise IndexFileError(f"the index has no row {lacking[0]}")
        with self._reading():
            return catalogue.entries(self._connection, wanted)

    def row_of(self, path: bytes) -> int | None:
        """The row of a path relative to the root; None where it is not searched."""
        with self._reading():
            found = self._connection.execute("SELECT row FROM rows WHERE path = ?", (path,))
            rows = [row for (row,) in found.fetchall() if self._is_alive(row)]
        return rows[-1] if rows else None

    def paths(self) -> tuple[list[bytes], Int64[np.ndarray, " n"]]:
        """All that are searched, and their rows, in the order of rows."""
        query = "SELECT row, path FROM rows WHERE row >= 0 AND row < ? ORDER BY row"
        with self._reading():
            found = self._connection.execute(query, (self.num_rows,))
            paths = [catalogue.blob(path) for row, path in found if self.alive[row]]
        return paths, np.flatnonzero(self.alive)

    def by_path(self) -> Iterator[tuple[int, Entry]]:
        """All rows that are searched and their images, in the order of paths, one by one.

        Until it ends no other thread may use the index.
        """
        with explained(self.path, "read"):
            found = catalogue.entries_by_path(self._connection, self.num_rows)
            yield from ((row, entry) for row, entry in found if self.alive[row])

    def labels(self) -> dict[str, int]:
        """How many images that are searched have each label, in the order of labels."""
        with self._reading():
            return filters.count_labels(self._connection, self.alive)

    def matching(self, where: Where) -> Bool[np.ndarray, " num_rows"]:
        """Which rows fulfil all conditions, such as {"label": "cat", "path": "2024/*"}.

        In a path * stands for any letters, / included, ? for one, [ab] for one of these.

        Raises:
          IndexFileError: a key there is not; the message names those there are.
          ValueError: the conditions are neither a dict nor pairs of texts.
        """
        pairs = conditions(where)
        with self._reading():
            return self.alive & filters.matching(self._connection, self.num_rows, pairs)

    def is_whole(self, row: int) -> bool:
        """Is a row searched, and is its perceptual hash, if its segment has some, there?"""
        return self._is_alive(row) and bool(self._whole[row])

    def codes(self, rows: Sequence[int] | Int64[np.ndarray, " m"]) -> UInt64[np.ndarray, "m words"]:
        """The codes of some rows, in their order; IndexFileError for one of a damaged segment."""
        return self._gathered(rows, [segment.codes for segment in self.segments], self.words)

    def packed(self, rows: Sequence[int] | Int64[np.ndarray, " m"]) -> UInt8[np.ndarray, "m b"]:
        """As `codes`, but eight bits a byte, as they were added."""
        return to_packed(self.codes(rows), self.model.bits)

    def hashes(self, rows: Sequence[int] | Int64[np.ndarray, " m"]) -> UInt64[np.ndarray, " m"]:
        """The perceptual hashes of some rows; IndexFileError for one that is not `hashed`."""
        none = np.empty((0, 1), np.uint64)
        found = [none if one.hashes is None else one.hashes[:, None] for one in self.segments]
        return self._gathered(rows, found, 1)[:, 0]

    @property
    def hashed(self) -> Bool[np.ndarray, " num_rows"]:
        """Which rows have a perceptual hash."""
        found = np.zeros(self.num_rows, bool)
        for one in self.segments:
            found[one.first_row : one.first_row + len(one.codes)] = one.hashes is not None
        return found

    def sample(self, count: int = 256, seed: int = 0) -> Int64[np.ndarray, " n"]:
        """Rows drawn at random of those that are searched, sorted; the same for one seed."""
        alive = np.flatnonzero(self.alive)
        count = min(count, len(alive))
        return np.sort(np.random.default_rng(seed).choice(alive, count, replace=False))

    def file(self, name: str) -> bytes:
        """A file that is kept beside, such as "encoder.npz"; IndexFileError if damaged."""
        if name not in self.header.files:
            there = ", ".join(self.header.files) or "none"
            raise IndexFileError(f"{shown(self.path)} keeps no file {name!r}; there is: {there}")
        place = self.path / storage.FILES / name
        if not place.exists():
            raise IndexFileError(f"{shown(place)} is missing; restore a copy of it")
        with explained(self.path, "read"):
            data = place.read_bytes()
        if digest(data) != self.header.files[name]:
            raise IndexFileError(f"{shown(place)} is damaged; restore a copy of it")
        return data

    def segment_records(self) -> list[catalogue.SegmentRecord]:
        """What the catalogue lists, damaged segments among them."""
        with self._reading():
            records = catalogue.segments(self._connection)
        return [record for record in records if record.first_row < self.num_rows]

    def catalogue_problems(self) -> list[str]:
        """Reads the whole catalogue; returns what is wrong in it, in some words each."""
        with self._reading():
            return catalogue.problems(self._connection)

    def thumbnail(self, row: int) -> bytes | None:
        """The JPEG of a row; None where none is kept."""
        return thumbnails.load(self.path / storage.THUMBNAILS, self.entries([row])[0].path)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """One thread at a time: two that run the same query on a connection disturb each other."""
        with self._lock, explained(self.path, "read"):
            yield

    def _is_alive(self, row: int) -> bool:
        return 0 <= row < self.num_rows and bool(self.alive[row])

    def _gathered(
        self, rows: Sequence[int] | np.ndarray, arrays: Sequence[np.ndarray], words: int
    ) -> UInt64[np.ndarray, "m words"]:
        """Values of rows, from one array [n, words] a segment; an empty one has none."""
        wanted = np.asarray(rows, np.int64)
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        result = np.empty((len(wanted), words), np.uint64)
        done = 0
        for segment, array in zip(self.segments, arrays, strict=True):
            ends = segment.first_row + np.array([0, len(array)])
            first, last = np.searchsorted(ordered, ends)
            result[order[first:last]] = array[ordered[first:last] - segment.first_row]
            done += last - first
        if done < len(wanted):
            raise IndexFileError(f"{shown(self.path)} has no codes or hashes of some of these rows")
        return result

    def _map(self, records: Sequence[catalogue.SegmentRecord], read: bool) -> tuple[Segment, ...]:
        """Maps the segments; of damaged ones the rows are dead and the names are kept."""
        read = read or 8 * self.words * self.num_rows <= _CHECKED_BYTES
        folder = self.path / storage.SEGMENTS
        found, damaged = [], []
        for record in records:
            rows = slice(record.first_row, record.first_row + record.rows)
            try:
                codes = storage.map_words(folder / record.codes, record.rows, self.words, read)
            except IndexFileError:
                damaged += [record.codes] if self.alive[rows].any() else []
                self.alive[rows] = False
                continue
            hashes = None
            if record.hashes:
                try:
                    hashes = storage.map_words(folder / record.hashes, record.rows, 1, read)[:, 0]
                except IndexFileError:
                    if not self.alive[rows].any():
                        continue
                    damaged.append(record.hashes)
                    self._whole[rows] = False
            found.append(Segment(record.codes, record.first_row, codes, hashes))
        self.damaged = tuple(damaged)
        return tuple(found)


def open_index(path: str | os.PathLike[str], *, read_all: bool = False) -> Index:
    """Opens the index in the folder `path` for reading.

    Args:
      path: its folder.
      read_all: finds damage in large indexes, too, of which all segments are read for it.

    Raises:
      IndexFileError: it is none, damaged, or of a newer format. Damaged segments are no error: see
        `Index.damaged`.
    """
    place = Path(path).expanduser()
    for attempt in range(_TRIES):
        header = read_header(place)
        try:
            with explained(place, "read"):
                index = _opened(place, header, read_all)
        except IndexFileError as error:
            # While we looked, a compaction may have put another catalogue in its place.
            if attempt + 1 < _TRIES and read_header(place) != header:
                continue
            if isinstance(error.__cause__, FileNotFoundError):
                raise IndexFileError(
                    f"{shown(place / header.catalogue)} is missing; restore a copy, or encode the "
                    "images into a new index"
                ) from None
            raise
        if not index.damaged or read_header(place) == header:
            return index
        index.close()
    raise IndexFileError(f"{shown(place)} is compacted again and again; try later")


def _opened(path: Path, header: Header, read_all: bool) -> Index:
    connection = catalogue.connect(path / header.catalogue)
    try:
        return Index(path, header, connection, read_all)
    except BaseException:
        connection.close()
        raise
