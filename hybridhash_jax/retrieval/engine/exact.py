"""The nearest codes, exactly: a scan in blocks that stay in the processor's cache.

Measured against faiss's flat binary index and a loop compiled by Numba (benchmarks/retrieval.py),
NumPy is as fast as the better one from a million codes on, five times as fast as faiss with a
filter, and starts without loading either.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

# Not in jaxtyping's terms: importing it takes a tenth of a second.
Words = npt.NDArray[np.uint64]  # [N, W], or [W] for one query
Mask = npt.NDArray[np.bool_]

_FIRST_BLOCK = 1 << 13  # rows; each block is four times the last one
_BLOCK = 1 << 17  # rows at most: larger ones leave the cache, smaller ones are more calls


@dataclasses.dataclass(frozen=True)
class Nearest:
    """Codes near a query, ordered by distance, then row.

    Attributes:
      rows: int64 [m].
      distances: int64 [m], in bits.
      at_last: how many items lie at the last distance, of which some may be cut off; 0 if m is 0.
      exact: False if only a part of the codes was compared; at_last then counts what was seen.
    """

    rows: npt.NDArray[np.int64]
    distances: npt.NDArray[np.int64]
    at_last: int
    exact: bool = True

    def __len__(self) -> int:
        return len(self.rows)


def nearest(
    codes: Sequence[Words],
    query: Words,
    k: int | None = None,
    radius: int | None = None,
    mask: Mask | None = None,
    first_rows: Sequence[int] | None = None,
) -> Nearest:
    """Finds the k nearest codes, those within a radius, or both, in one thread.

    Args:
      codes: arrays uint64 [n, W], which may be memory-mapped.
      query: uint64 [W].
      k: how many at most; None for all within the radius.
      radius: largest distance in bits; None for any.
      mask: bool by row number; False leaves a row out before it is compared.
      first_rows: the row number of each array's first code, ascending; None if they lie end to end.

    Raises:
      ValueError: neither k nor radius, one out of range, or shapes that do not fit.
    """
    return nearest_batch(codes, np.asarray(query)[None], k, radius, mask, first_rows)[0]


def nearest_batch(
    codes: Sequence[Words],
    queries: Words,
    k: int | None = None,
    radius: int | None = None,
    mask: Mask | None = None,
    first_rows: Sequence[int] | None = None,
) -> list[Nearest]:
    """Does `nearest` for queries uint64 [Q, W]; codes are read once for all of them."""
    starts = check_arguments(codes, queries, k, radius, mask, first_rows)
    rows = min(_BLOCK, max((len(array) for array in codes), default=0))
    scratch = _Scratch(rows, 64 * queries.shape[1])
    scans = [_Scan(query, k, radius, scratch) for query in queries]
    for start, block in _blocks(codes, starts):
        wanted = None if mask is None else mask[start : start + len(block)]
        if wanted is None or wanted.any():
            for scan in scans:
                scan.look_at(start, block, wanted)
    return [scan.result() for scan in scans]


def check_arguments(
    codes: Sequence[Words],
    queries: Words,
    k: int | None,
    radius: int | None,
    mask: Mask | None,
    first_rows: Sequence[int] | None,
) -> list[int]:
    """Refuses what `nearest` cannot take; returns the first row of each array."""
    if k is None and radius is None:
        raise ValueError("give k, a radius, or both; got neither")
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    if radius is not None and radius < 0:
        raise ValueError(f"radius must be at least 0 bits; got {radius}")
    for name, array in [("queries", queries), *(("codes", array) for array in codes)]:
        if array.dtype != np.uint64 or array.ndim != 2 or array.shape[1] != queries.shape[-1]:
            raise ValueError(
                f"{name} must be uint64 of {queries.shape[-1]} words a row, as the query; got "
                f"{array.dtype} {list(array.shape)}"
            )
    sizes = [len(array) for array in codes]
    starts = _starts(sizes, first_rows)
    end = starts[-1] + sizes[-1] if sizes else 0
    if mask is not None and (mask.dtype != np.bool_ or mask.shape[0] < end):
        raise ValueError(f"mask must be bool of {end} rows; got {mask.dtype} {list(mask.shape)}")
    return starts


def _starts(sizes: Sequence[int], first_rows: Sequence[int] | None) -> list[int]:
    if first_rows is None:
        return list(itertools.accumulate(sizes, initial=0))[:-1]
    starts = [int(row) for row in first_rows]
    if len(starts) != len(sizes):
        raise ValueError(f"{len(sizes)} arrays of codes, but {len(starts)} first rows")
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    if any(end > start for end, start in zip(ends, starts[1:], strict=False)):
        raise ValueError(f"first rows {starts} must ascend, without overlap of {sizes} rows")
    return starts


def _blocks(codes: Sequence[Words], starts: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    size = _FIRST_BLOCK
    for start, array in zip(starts, codes, strict=True):
        plain = np.asarray(array)  # a slice of a memory map costs more than its scan
        at = 0
        while at < len(plain):
            yield start + at, plain[at : at + size]
            at += size
            size = min(4 * size, _BLOCK)


class _Scratch:
    """Memory for the distances of one block, used again for each."""

    def __init__(self, rows: int, bits: int) -> None:
        self.differing = np.empty(rows, np.uint64)
        # One more than `bits` is a limit that leaves nothing out.
        self.distances = np.empty(rows, np.uint8 if bits < 255 else np.uint16)
        self.more = np.empty(rows, np.uint8)
        self.near = np.empty(rows, np.bool_)

    def compare(self, block: Words, query: Words) -> np.ndarray:
        size = len(block)
        differing, distances = self.differing[:size], self.distances[:size]
        for word, value in enumerate(query):
            np.bitwise_xor(block[:, word], value, out=differing)
            if word == 0:
                np.bitwise_count(differing, out=distances)
            else:
                distances += np.bitwise_count(differing, out=self.more[:size])
        return distances


class _Scan:
    """What one query has found so far.

    Only what is nearer than `limit` is kept. Once k items lie within a distance, a later row at it
    cannot come before them, so it is only counted.
    """

    def __init__(self, query: Words, k: int | None, radius: int | None, scratch: _Scratch) -> None:
        largest = 64 * len(query)
        self.query, self.k, self.scratch = query, k, scratch
        self.limit = largest + 1 if radius is None else min(radius, largest) + 1
        self.counts = np.zeros(largest + 2, np.int64)
        self.found: list[tuple[np.ndarray, np.ndarray]] = []
        self.held = 0

    def look_at(self, start: int, block: Words, wanted: Mask | None) -> None:
        distances = self.scratch.compare(block, self.query)
        near = np.less_equal(distances, self.limit, out=self.scratch.near[: len(block)])
        if wanted is not None:
            near &= wanted
        places = np.flatnonzero(near)
        distances = distances[places]
        self.counts += np.bincount(distances, minlength=len(self.counts))
        nearer = distances < self.limit
        if nearer.any():
            self.found.append((places[nearer] + start, distances[nearer]))
            self.held += len(self.found[-1][0])
            self._lower_limit()

    def result(self) -> Nearest:
        if not self.held:
            return Nearest(np.empty(0, np.int64), np.empty(0, np.int64), 0)
        rows, distances = self._joined()
        order = np.argsort(distances, kind="stable")[: self.k]
        distances = distances[order].astype(np.int64)
        return Nearest(rows[order], distances, int(self.counts[distances[-1]]))

    def _lower_limit(self) -> None:
        if self.k is None or self.held < self.k:
            return
        self.limit = min(self.limit, int(np.searchsorted(self.counts.cumsum(), self.k)))
        if self.held > 16 * self.k:  # memory stays bounded
            rows, distances = self._joined()
            kept = np.argsort(distances, kind="stable")[: self.k]
            self.found = [(rows[kept], distances[kept])]
            self.held = self.k

    def _joined(self) -> tuple[np.ndarray, np.ndarray]:
        rows, distances = zip(*self.found, strict=True)
        return np.concatenate(rows), np.concatenate(distances)
