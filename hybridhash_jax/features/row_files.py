"""The two files of a feature store: rows of equal size, and whose row is where.

`features.f16` holds the rows, float16 with the little end first. `index` holds 20 bytes for each: the
checksum of the image, and a CRC-32 of it and the row together, which says that both were written
whole. A row counts once its entry in the index is there.
"""

import itertools
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from input_pipeline.atomic_file import sync
from input_pipeline.threads import available_cores, map_in_threads

ROWS = "features.f16"
INDEX = "index"
SUM_BYTES = 16
ENTRY = np.dtype([("sum", np.uint8, SUM_BYTES), ("check", "<u4")])
FLOAT16 = np.dtype("<f2")
_CHUNK_BYTES = 4 * 2**20


def sizes(folder: Path) -> tuple[int, int]:
    """The bytes of the index and of the rows."""
    return _size(folder / INDEX), _size(folder / ROWS)


def length(folder: Path, row_bytes: int) -> int:
    """How many whole rows both files have."""
    index, rows = sizes(folder)
    return min(index // ENTRY.itemsize, rows // row_bytes)


def surplus(folder: Path, row_bytes: int) -> int:
    """How many bytes lie behind the last row that both files have."""
    return sum(sizes(folder)) - length(folder, row_bytes) * (ENTRY.itemsize + row_bytes)


def cut(folder: Path, row_bytes: int) -> None:
    """Shortens both files to the whole rows that both have."""
    rows = length(folder, row_bytes)
    for name, size in ((INDEX, ENTRY.itemsize), (ROWS, row_bytes)):
        if _size(folder / name) > rows * size:
            os.truncate(folder / name, rows * size)


def read_index(folder: Path, rows: int) -> np.ndarray:
    """The first `rows` entries; OSError."""
    with open(folder / INDEX, "rb") as file:
        data = file.read(rows * ENTRY.itemsize)
    return np.frombuffer(data, ENTRY, len(data) // ENTRY.itemsize)


def map_rows(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The rows, memory-mapped and read-only; an empty array where there are none; OSError."""
    if shape[0] == 0:
        return np.empty(shape, FLOAT16)
    return np.memmap(folder / ROWS, FLOAT16, "r", shape=shape)


def check_of(checksum: np.ndarray, row: np.ndarray) -> int:
    """What an entry keeps of the image's checksum, uint8 [16], and its row, float16, together."""
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(checksum.data))


def damaged(entries: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Those of the places whose row is not what its entry says. Reads the rows, by threads."""

    def wrong(part: list[int]) -> list[int]:
        # A row at a time, so that a memory-mapped file is never copied whole.
        sums, checks = entries["sum"], entries["check"]
        return [place for place in part if check_of(sums[place], rows[place]) != checks[place]]

    size = max(1, _CHUNK_BYTES // max(1, rows[:1].nbytes))
    parts = (places[start : start + size].tolist() for start in range(0, len(places), size))
    found = map_in_threads(wrong, parts, available_cores())
    return np.array(list(itertools.chain.from_iterable(found)), np.int64)


def append(folder: Path, entries: np.ndarray, rows: np.ndarray) -> None:
    """Writes rows, then their entries; OSError leaves both files with whole rows.

    A process that is killed on the way loses these rows and no others.
    """
    try:
        _append(folder / ROWS, rows)
        _append(folder / INDEX, entries)
    except OSError:
        with suppress(OSError):
            cut(folder, rows[0].nbytes)
        raise


def _append(path: Path, data: np.ndarray) -> None:
    with _opened(path) as file:
        rest = np.ascontiguousarray(data).data.cast("B")
        while rest:
            rest = rest[os.write(file, rest) :]
        sync(file)  # a row must be on the disk before its entry is


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
