"""The loops over all pairs of query and database item, compiled by Numba and run in threads.

A pair costs one or two popcounts and an increment, and no array of pairs exists. NumPy would write
and read M distances a query several times, and XLA turns a histogram into a serial scatter on CPU.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt16, UInt64

from hybridhash_jax.metrics.arguments import PackedItems
from hybridhash_jax.metrics.numba_typed import compiled, popcount
from input_pipeline.threads import available_cores

_BLOCK = 4096  # rows whose distances are kept at a time: 8 KB, in the first-level cache
_QUERIES_A_TASK = 32
_FOUND = 1 << 32  # a counter holds the relevant items above this bit, all items below it

Words = UInt64[np.ndarray, "W N"]
Groups = Int64[np.ndarray, "Q distances"]
Block = UInt16[np.ndarray, "rows"]


def count_by_grade(
    queries: PackedItems, database: PackedItems, by_class: bool, bits: int, grades: int
) -> Int32[np.ndarray, "Q distances grades"]:
    """Counts the database items at each distance that share g labels with each query."""
    counts = np.zeros((len(queries), bits + 1, grades), np.int32)

    def run(part: slice) -> None:
        _count(*_arrays(queries, database, part), by_class, counts[part])

    in_threads(run, len(queries))
    return counts


def stable_precisions(
    queries: PackedItems,
    database: PackedItems,
    by_class: bool,
    items: Groups,
    relevant: Groups,
    places: int,
) -> Float64[np.ndarray, "Q"]:
    """Computes AP@places with ties in the order of database rows.

    `items` and `relevant` are how many lie at each distance; `places` is k, 1 to M.
    """
    # Nothing is sorted: the groups' sizes say at which place each distance begins.
    # The place before each group, and the relevant items before it, in one counter.
    start = np.cumsum(items, axis=1) - items + _FOUND * (np.cumsum(relevant, axis=1) - relevant)
    result = np.empty(len(queries))

    def run(part: slice) -> None:
        arrays = _arrays(queries, database, part)
        _sum_in_row_order(*arrays, by_class, start[part], places, result[part])

    in_threads(run, len(queries))
    return result


def _arrays(
    queries: PackedItems, database: PackedItems, part: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Words and labels of some queries, a query a row, and of the database."""
    query_words, query_labels = queries.words[:, part].T, queries.labels[:, part].T
    return (
        np.ascontiguousarray(query_words),
        np.ascontiguousarray(query_labels),
        database.words,
        database.labels,
    )


def in_threads(run: Callable[[slice], None], queries: int) -> None:
    """Calls `run` with slices that together are all queries; the threads end with the call."""
    parts = [slice(i, i + _QUERIES_A_TASK) for i in range(0, queries, _QUERIES_A_TASK)]
    with ThreadPoolExecutor(min(len(parts), available_cores())) as pool:
        list(pool.map(run, parts))


@compiled
def _count(
    query_words: UInt64[np.ndarray, "Q W"],
    query_labels: UInt64[np.ndarray, "Q L"],
    words: Words,
    labels: Words,
    by_class: bool,
    counts: Int32[np.ndarray, "Q distances grades"],
) -> None:
    distance, grade = np.empty(_BLOCK, np.uint16), np.empty(_BLOCK, np.uint16)
    for query in range(counts.shape[0]):
        table = counts[query]
        for start in range(0, words.shape[1], _BLOCK):
            rows = min(_BLOCK, words.shape[1] - start)
            _distances(query_words[query], words, start, distance[:rows])
            shared_labels(query_labels[query], labels, by_class, start, grade[:rows])
            for i in range(rows):
                table[distance[i], grade[i]] += 1


@compiled
def _sum_in_row_order(
    query_words: UInt64[np.ndarray, "Q W"],
    query_labels: UInt64[np.ndarray, "Q L"],
    words: Words,
    labels: Words,
    by_class: bool,
    counters: Groups,
    places: int,
    result: Float64[np.ndarray, "Q"],
) -> None:
    """Writes AP@places; overwrites `counters`, which hold what lies before each distance."""
    distance, grade = np.empty(_BLOCK, np.uint16), np.empty(_BLOCK, np.uint16)
    kept = np.empty(_BLOCK + 1, np.int64)
    for query in range(result.shape[0]):
        counter, total, count = counters[query], 0.0, 0
        for start in range(0, words.shape[1], _BLOCK):
            rows = min(_BLOCK, words.shape[1] - start)
            _distances(query_words[query], words, start, distance[:rows])
            shared_labels(query_labels[query], labels, by_class, start, grade[:rows])
            # Keeps the counters of relevant rows without a branch, which would be hard to predict:
            # the next row writes over the counter of one that is not relevant.
            found = np.uint64(0)
            for i in range(rows):
                is_relevant = np.int64(grade[i] != 0)
                now = counter[distance[i]] + is_relevant * _FOUND + 1
                counter[distance[i]] = kept[found] = now
                found += np.uint64(is_relevant)
            for now in kept[: np.int64(found)]:
                place = now & (_FOUND - 1)
                if place <= places:
                    total += (now >> 32) / place
                    count += 1
        result[query] = total / max(count, 1)


@compiled
def _distances(query: UInt64[np.ndarray, "W"], words: Words, start: int, out: Block) -> None:
    """Writes the Hamming distances of a query to the items from `start` on."""
    out[:] = 0
    for word in range(query.shape[0]):
        of_query, row = query[word], words[word, start : start + out.shape[0]]
        for i in range(out.shape[0]):
            out[i] += popcount(of_query ^ row[i])


@compiled
def shared_labels(
    query: UInt64[np.ndarray, "L"], labels: Words, by_class: bool, start: int, out: Block
) -> None:
    """Writes how many labels a query shares with each of these items."""
    out[:] = 0
    for word in range(query.shape[0]):
        of_query, row = query[word], labels[word, start : start + out.shape[0]]
        if by_class:
            for i in range(out.shape[0]):
                out[i] = of_query == row[i]
        else:
            for i in range(out.shape[0]):
                out[i] += popcount(of_query & row[i])
