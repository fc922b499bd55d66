"""The nearest codes, exactly: every code is compared, and equal distances come in row order."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.threads import available_cores, map_in_threads

# Fewer comparisons than these NumPy has done before Numba is imported, which takes half a second.
_WORTH_COMPILING = 50_000_000
# With more the compiled loop would keep too many rows a distance.
_MOST_KEPT = 10_000
_FAR = np.uint16(65535)


class Nearest(NamedTuple):
    """The codes nearest to a query.

    Attributes:
      rows: int64 [m], by distance, then by row.
      distances: int64 [m], in bits.
      at_last: how many of all codes that were searched have the last of these distances; where
        the answer was cut off at k, some of them may be left out.
    """

    rows: np.ndarray
    distances: np.ndarray
    at_last: int


def nearest(
    codes: Sequence[np.ndarray],
    query: np.ndarray,
    k: int | None = None,
    radius: int | None = None,
    mask: np.ndarray | None = None,
) -> Nearest:
    """The k nearest codes, those within a radius, or the k nearest within it; in one thread.

    Args:
      codes: segments of codes, uint64 [n, W]; rows are counted through all of them.
      query: uint64 [W].
      k: how many; None is all within `radius`.
      radius: the largest distance, in bits; None is any.
      mask: bool [N], which rows are searched; None is all.

    Raises:
      ValueError: shapes or types that do not fit; k or radius below their least.
    """
    (found,) = nearest_of_many(codes, query[None], k, radius, mask, num_workers=1)
    return found


def nearest_of_many(
    codes: Sequence[np.ndarray],
    queries: np.ndarray,
    k: int | None = None,
    radius: int | None = None,
    mask: np.ndarray | None = None,
    *,
    num_workers: int | None = None,
) -> list[Nearest]:
    """`nearest` of each of the queries, uint64 [Q, W], in threads; None is one a core."""
    _check(codes, queries, k, radius, mask)
    total = sum(map(len, codes))
    limit = _limit(queries.shape[1], radius)
    if total == 0:
        return [_nothing() for _ in queries]
    uses_loop = k is not None and k <= _MOST_KEPT
    if uses_loop and total * len(queries) > _WORTH_COMPILING:
        from hybridhash_jax.retrieval.engine.scan_loops import keep_nearest  # Numba

        def one(query: np.ndarray) -> Nearest:
            assert k is not None
            counts = np.zeros(limit + 1, np.int64)
            kept = np.empty((limit + 1, min(k, total)), np.int64)
            up_to = limit
            for first, part, own in _segments(codes, mask):
                up_to = keep_nearest(part, query, own, first, up_to, counts, kept)
            return _of_kept(counts, kept, up_to, k)
    else:

        def one(query: np.ndarray) -> Nearest:
            return _of_all(_distances(codes, query, mask), k, limit)

    workers = min(num_workers or available_cores(), len(queries))
    with contextlib.closing(map_in_threads(one, queries, workers)) as answers:
        return list(answers)


def _check(
    codes: Sequence[np.ndarray],
    queries: np.ndarray,
    k: int | None,
    radius: int | None,
    mask: np.ndarray | None,
) -> None:
    if k is None and radius is None:
        raise ValueError("give k, radius, or both: else every code is an answer")
    if k is not None and k < 1:
        raise ValueError(f"k={k}; give 1 or more")
    if radius is not None and radius < 0:
        raise ValueError(f"radius={radius}; give 0 or more")
    for array in (queries, *codes):
        if array.dtype != np.uint64 or array.ndim != 2 or array.shape[1] != queries.shape[1]:
            raise ValueError(
                f"codes and queries are uint64 [n, words] of equally many words; there are "
                f"{array.dtype} {array.shape} and {queries.dtype} {queries.shape}"
            )
    total = sum(map(len, codes))
    if mask is not None and (mask.dtype != bool or mask.shape != (total,)):
        raise ValueError(
            f"a mask of {total} codes is bool [{total}], not {mask.dtype} {mask.shape}"
        )


def _limit(words: int, radius: int | None) -> int:
    most = 64 * words
    return most if radius is None else min(radius, most)


def _segments(
    codes: Sequence[np.ndarray], mask: np.ndarray | None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    first, everything = 0, np.zeros(0, bool)
    for part in codes:
        yield first, part, everything if mask is None else mask[first : first + len(part)]
        first += len(part)


def _distances(
    codes: Sequence[np.ndarray], query: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    """uint16 [N]; 65535 for what is not searched."""
    parts = [np.bitwise_count(part ^ query).sum(axis=1, dtype=np.uint16) if part.shape[1] > 1
             else np.bitwise_count(part[:, 0] ^ query[0]).astype(np.uint16) for part in codes]  # fmt: skip
    distances = np.concatenate(parts)
    if mask is not None:
        distances[~mask] = _FAR
    return distances


def _of_all(distances: np.ndarray, k: int | None, limit: int) -> Nearest:
    """The answer from all distances."""
    near = np.flatnonzero(distances <= limit)
    counts = np.bincount(distances[near], minlength=limit + 1)
    if k is not None and k < len(near):
        last = int(np.searchsorted(np.cumsum(counts), k))
        near = near[distances[near] <= last]
    order = np.argsort(distances[near], kind="stable")[:k]
    rows = near[order]
    return _answer(rows, distances[rows].astype(np.int64), counts)


def _of_kept(counts: np.ndarray, kept: np.ndarray, up_to: int, k: int) -> Nearest:
    """The answer from the first rows at each distance."""
    there = np.minimum(counts[: up_to + 1], kept.shape[1])
    rows = np.concatenate([kept[d, :count] for d, count in enumerate(there.tolist())])[:k]
    return _answer(rows, np.repeat(np.arange(up_to + 1), there)[:k], counts)


def _answer(rows: np.ndarray, distances: np.ndarray, counts: np.ndarray) -> Nearest:
    return Nearest(rows, distances, int(counts[distances[-1]]) if len(rows) else 0)


def _nothing() -> Nearest:
    return Nearest(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
