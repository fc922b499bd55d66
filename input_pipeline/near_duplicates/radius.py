"""Pairs of 64-bit hashes within a Hamming radius: all of them, and no other.

Two hashes of distance r are equal in at least one of r + 1 parts of their bits, so only those that
share a part are compared; where that is more work than comparing all, all are compared.
"""

import contextlib
from typing import NamedTuple

import numpy as np

from input_pipeline.compiled import compiled
from input_pipeline.near_duplicates.hashing import BITS
from input_pipeline.threads import available_cores, map_in_threads

# More would not fit into memory, and nobody looks at them.
MAX_PAIRS = 50_000_000
_ROWS = 4096  # of the first hashes, that a thread takes at once
_TILE = 1024  # of the second, that are counted before one is looked at
# What comparing hashes that lie in buckets costs, in comparisons of all with all: jumps, sorting.
_BUCKETED_COST = 1.5
_ONE = np.uint64(1)
_PAIRS, _FOURS, _EIGHTS, _SUM = (
    np.uint64(x)
    for x in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)


class Pairs(NamedTuple):
    """Rows of the first and the second hashes, int64 [P], and their distances, uint8 [P]."""

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray


def pairs_within(
    first: np.ndarray,
    radius: int,
    second: np.ndarray | None = None,
    *,
    num_workers: int | None = None,
) -> Pairs:
    """All pairs of hashes uint64 [N] and [M] that differ in at most `radius` bits, in row order.

    Without `second`, pairs of rows i < j of `first`.

    Raises:
      ValueError: there are more than `MAX_PAIRS`.
    """
    same = second is None
    second = first if second is None else second
    parts = _parts(first, second, radius)
    found: list[Pairs] = []
    total = 0
    tables = [_Table.of(first, second, part) for part in parts]
    tasks = [
        (number, start) for number in range(len(parts)) for start in range(0, len(first), _ROWS)
    ]

    def search(task: tuple[int, int]) -> Pairs:
        number, start = task
        table = tables[number]
        a, b, distances = _search(
            table.first, table.order_first, table.second, table.order_second,
            table.first_keys, table.starts, start, start + _ROWS, radius, same,
            np.array(parts[:number], np.uint64).reshape(-1, 2),
        )  # fmt: skip
        return Pairs(a, b, distances)

    workers = num_workers or available_cores()
    with contextlib.closing(map_in_threads(search, tasks, workers)) as results:
        for one in results:
            found.append(one)
            total += len(one.first)
            if total > MAX_PAIRS:
                raise ValueError(
                    f"more than {MAX_PAIRS:,} pairs are within {radius} bits: give a smaller radius"
                )
    return _in_order(found)


class _Table(NamedTuple):
    """Hashes sorted by a part of their bits, and where each value's begin among the second."""

    first: np.ndarray
    order_first: np.ndarray
    first_keys: np.ndarray
    second: np.ndarray
    order_second: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, part: tuple[int, int]) -> "_Table":
        keys = _keys(second, part)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << part[1]) + 1, dtype=np.uint32))
        if second is first:
            own_keys, own_order = keys, order
        else:
            own_keys = _keys(first, part)
            own_order = np.argsort(own_keys, kind="stable")
        return cls(first[own_order], own_order, own_keys[own_order], second[order], order, starts)


def _parts(first: np.ndarray, second: np.ndarray, radius: int) -> list[tuple[int, int]]:
    """The parts of the bits to look into, (shift, bits) each; one of no bits compares all."""
    count = radius + 1
    edges = [BITS * i // count for i in range(count + 1)]
    parts = [(low, high - low) for low, high in zip(edges, edges[1:], strict=False)]
    if max(bits for _, bits in parts) > 20:  # more buckets than any cache holds
        parts = [(low, min(bits, 20)) for low, bits in parts]
    comparisons = 0.0
    for part in parts if count <= BITS // 3 else []:
        size = 1 << part[1]
        comparisons += float(
            np.bincount(_keys(first, part), minlength=size).astype(np.float64)
            @ np.bincount(_keys(second, part), minlength=size)
        )
    everything = float(len(first)) * len(second)
    bucketed = count <= BITS // 3 and _BUCKETED_COST * comparisons < everything
    return parts if bucketed else [(0, 0)]


def _keys(hashes: np.ndarray, part: tuple[int, int]) -> np.ndarray:
    shift, bits = part
    keys = (hashes >> np.uint64(shift)) & np.uint64((1 << bits) - 1)
    return keys.astype(np.uint16 if bits <= 16 else np.uint32)  # radix sort, up to 16 bits


def _in_order(found: list[Pairs]) -> Pairs:
    if not found:
        nothing = np.zeros(0, np.int64)
        return Pairs(nothing, nothing, np.zeros(0, np.uint8))
    first, second, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], distances[order])


@compiled
def _distance(a, b):
    # LLVM knows these lines, and makes them one instruction on eight hashes where there is one.
    x = a ^ b
    x = x - ((x >> _ONE) & _PAIRS)
    x = (x & _FOURS) + ((x >> np.uint64(2)) & _FOURS)
    x = (x + (x >> np.uint64(4))) & _EIGHTS
    return (x * _SUM) >> np.uint64(56)


@compiled
def _search(
    first, order_first, second, order_second, keys, starts, begin, end, radius, same, earlier
):
    """Pairs of rows begin..end of the first with those of the second in their bucket."""
    limit = np.uint64(radius)
    size, found = 1024, 0
    a, b, distances = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint8)
    for i in range(begin, min(end, len(first))):
        value, key = first[i], keys[i]
        low, high = starts[key], starts[key + 1]
        if same:
            low = max(low, i + 1)
        for tile in range(low, high, _TILE):
            part = second[tile : min(tile + _TILE, high)]
            near = 0
            for j in range(len(part)):
                near += _distance(value, part[j]) <= limit
            if not near:
                continue
            for j in range(len(part)):
                distance = _distance(value, part[j])
                if distance > limit or _found_before(value ^ part[j], earlier):
                    continue
                if found == size:
                    size *= 2
                    a, b = _grown(a, size), _grown(b, size)
                    distances = _grown(distances, size)
                a[found], b[found] = order_first[i], order_second[tile + j]
                distances[found] = distance
                found += 1
    return a[:found].copy(), b[:found].copy(), distances[:found].copy()


@compiled
def _found_before(difference, earlier):
    """Whether the two are equal in a part that was looked into before."""
    for k in range(len(earlier)):
        mask = (_ONE << earlier[k, 1]) - _ONE
        if not (difference >> earlier[k, 0]) & mask:
            return True
    return False


@compiled
def _grown(values, size):
    larger = np.empty(size, values.dtype)
    larger[: len(values)] = values
    return larger
