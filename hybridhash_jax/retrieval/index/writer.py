"""Writing to an index: one writer, and every change in one transaction."""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64

from hybridhash_jax.retrieval.index import catalogue, header, storage, thumbnails
from hybridhash_jax.retrieval.index.catalogue import ALIVE, Known
from hybridhash_jax.retrieval.index.errors import IndexFileError, damaged, explained
from hybridhash_jax.retrieval.index.header import Header, digest, read_header
from hybridhash_jax.retrieval.index.reader import Index, open_index
from hybridhash_jax.retrieval.index.records import Entry, Model
from hybridhash_jax.retrieval.index.words import check_unused_bits, to_words
from hybridhash_jax.retrieval.names import shown
from input_pipeline.atomic_file import sync

_NO_FILES: Mapping[str, bytes] = {}


def create_index(
    path: str | os.PathLike[str],
    model: Model,
    root: Path | None,
    files: Mapping[str, bytes] = _NO_FILES,
) -> None:
    """Makes an empty index, whole or not at all.

    Args:
      path: its folder, which must not be there, or be empty.
      model: that makes the codes.
      root: the folder that paths are relative to, kept as an absolute path.
      files: what is kept beside, such as "encoder.npz".

    Raises:
      IndexFileError: there is something already, or it cannot be written.
    """
    target = Path(path).expanduser()
    with storage.building(target) as place, explained(target, "write"):
        for name, data in files.items():
            storage.write_synced(place / storage.FILES / name, data)
        sums = {name: digest(data) for name, data in sorted(files.items())}
        new = Header(model, None if root is None else Path(root).absolute(), 0, sums)
        catalogue.create(place / new.catalogue).close()
        finish(place, new)


def finish(path: Path, new: Header) -> None:
    """Syncs a catalogue, then lets index.json name it."""
    with open(path / new.catalogue, "rb") as file:
        sync(file.fileno())
    storage.sync_folder(path)
    storage.write_synced(path / header.NAME, new.to_json())


class Writer:
    """Changes an index; `open_writer` makes it.

    Attributes:
      path: its folder.
      model: that made the codes.
      lost_thumbnails: how many could not be kept. lost_why: the last reason.
    """

    def __init__(self, path: Path, head: Header, connection: sqlite3.Connection):
        """Is for `open_writer`, which holds the lock."""
        self.path, self.model = path, head.model
        self._header, self._connection = head, connection
        self._index: Index | None = None
        self.lost_thumbnails, self.lost_why = 0, ""

    @property
    def index(self) -> Index:
        """The index as it is now."""
        with explained(self.path, "read"):
            generation = self._header.generation + catalogue.changes(self._connection)
        if self._index is None or self._index.generation != generation:
            self._index = open_index(self.path)
        return self._index

    def known(self) -> Mapping[bytes, Known]:
        """Paths that have a code, which is looked up on the disk: it takes no memory.

        All segments are read once: what was in damaged ones is not known.
        """
        self._index = open_index(self.path, read_all=True)
        return _KnownFiles(self._connection, self._index)

    def add(
        self,
        entries: Sequence[Entry],
        packed: UInt8[np.ndarray, "n bytes"],
        hashes: UInt64[np.ndarray, " n"] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
    ) -> None:
        """Adds codes as one new segment; older rows of the same paths become tombstones.

        Args:
          entries: the images, no path twice.
          packed: their codes, eight bits a byte, as `codes.pack` gives them; unused bits are 0.
          hashes: their perceptual hashes.
          thumbnails: their JPEGs; None for one without.

        Raises:
          IndexFileError: it cannot be written; the index is as before.
        """
        if not entries:
            return
        self._check(entries, packed, hashes)
        with explained(self.path, "write"):
            files = storage.write_segment(self.path, to_words(packed), hashes)
            try:
                with self._transaction():
                    self._enter(entries, files)
            except BaseException:
                clean(self.path)
                raise
        pictures = thumbnails or [None] * len(entries)
        self._keep(zip((entry.path for entry in entries), pictures, strict=True))

    def remove(self, paths: Iterable[bytes]) -> int:
        """Makes tombstones of paths; returns how many of them there were."""
        gone = list(dict.fromkeys(paths))
        with explained(self.path, "write"), self._transaction():
            count = self._bury(catalogue.alive_rows(self._connection, gone))
        self._keep((path, None) for path in gone)
        return count

    def note_backend(self, backend: str, dtype: str, images: int, differing_bits: int) -> None:
        """Notes, for `index info`, how an encoder elsewhere differs on a sample of the images."""
        with explained(self.path, "write"), self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO backends VALUES (?, ?, ?, ?)",
                (backend, dtype, images, differing_bits),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("UPDATE state SET changes = changes + 1")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk may have undone it already
                connection.execute("ROLLBACK")
            raise

    def _check(
        self, entries: Sequence[Entry], packed: np.ndarray, hashes: np.ndarray | None
    ) -> None:
        expected = (len(entries), -(-self.model.bits // 8))
        if packed.shape != expected or packed.dtype != np.uint8:
            raise ValueError(
                f"packed must be uint8 {list(expected)} for {len(entries)} images and codes of "
                f"{self.model.bits} bits; it is {packed.dtype} {list(packed.shape)}"
            )
        check_unused_bits(packed, self.model.bits)
        if hashes is not None and (hashes.shape != expected[:1] or hashes.dtype != np.uint64):
            raise ValueError(
                f"hashes must be uint64 [{len(entries)}]; it is {hashes.dtype} {list(hashes.shape)}"
            )
        if len({entry.path for entry in entries}) < len(entries):
            raise ValueError("a path is given twice; give each image once")

    def _enter(self, entries: Sequence[Entry], files: storage.SegmentFiles) -> None:
        connection = self._connection
        first = catalogue.count_rows(catalogue.last_segment(connection))
        self._bury(catalogue.alive_rows(connection, (entry.path for entry in entries)))
        catalogue.add_rows(connection, first, entries)
        connection.execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?)", (first, len(entries), *files)
        )

    def _bury(self, rows: Sequence[int]) -> int:
        change = catalogue.changes(self._connection) + 1
        self._connection.executemany(
            "INSERT INTO tombstones VALUES (?, ?)", ((row, change) for row in sorted(rows))
        )
        return len(rows)

    def _keep(self, pictures: Iterable[tuple[bytes, bytes | None]]) -> None:
        given = list(pictures)
        if reason := thumbnails.keep(self.path / storage.THUMBNAILS, given):
            self.lost_thumbnails += sum(jpeg is not None for _, jpeg in given)
            self.lost_why = reason


@contextlib.contextmanager
def open_writer(path: str | os.PathLike[str]) -> Iterator[Writer]:
    """Opens the index in the folder `path` for writing, and removes what a killed writer left.

    Raises:
      IndexFileError: it is none, damaged, of a newer format, or another process writes to it.
    """
    place = Path(path).expanduser()
    read_header(place)
    with storage.locked(place):
        head = read_header(place)  # again: who held the lock may have compacted
        with explained(place, "write"):
            connection = catalogue.connect(place / head.catalogue, to_write=True)
        with contextlib.closing(connection):
            clean(place)
            yield Writer(place, head, connection)


def clean(path: Path) -> None:
    """Removes files that the index does not list; only for who holds its lock.

    IndexFileError, and nothing is removed, where the catalogue is damaged.
    """
    name = read_header(path).catalogue
    with explained(path, "read"), contextlib.closing(catalogue.connect(path / name)) as connection:
        listed = catalogue.listed_files(connection)
    storage.remove_unlisted(path, name, listed)


class _KnownFiles(Mapping[bytes, Known]):
    """Looks paths up in the catalogue."""

    def __init__(self, connection: sqlite3.Connection, index: Index):
        self._connection, self._index = connection, index

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[bytes]:
        last = b""
        # In parts, so that the catalogue may be changed between two of them.
        while True:
            found = self._rows("row, path", "path > ? ORDER BY path LIMIT 10000", last)
            if not found:
                return
            if not last < found[-1][1]:  # or it would go on without end
                raise IndexFileError(
                    f"cannot read the index {shown(self._index.path)}: {damaged()}"
                )
            last = found[-1][1]
            yield from (path for row, path in found if self._counts(row))

    def __getitem__(self, path: bytes) -> Known:
        found = self._rows("row, size, modified_ns", "path = ?", path)
        if not found or not self._counts(found[0][0]):
            raise KeyError(path)
        return Known(*found[0])

    def _rows(self, columns: str, which: str, path: bytes) -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM rows WHERE {ALIVE} AND {which}"
        with explained(self._index.path, "read"):
            return self._connection.execute(query, (path,)).fetchall()

    def _counts(self, row: int) -> bool:
        """Not in a damaged segment: its images are to be encoded again."""
        return row >= self._index.num_rows or self._index.is_whole(row)
