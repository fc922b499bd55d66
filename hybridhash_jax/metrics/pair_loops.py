"""The loops over all pairs of query and database item, compiled by Numba and run in threads.

Numba, because popcount and a histogram in one pass need no memory for the pairs: NumPy writes and
reads an array of M distances a query several times, and XLA turns a histogram into a scatter
(serial on a CPU). Threads are concurrent.futures', since the loops release the GIL and share
nothing: they end with the call, and need none of Numba's own thread pools.

Floor: a pair is 8 bytes of code, read once for four queries, one xor, one popcount and one
increment of a histogram. Without labels that took 0.62 ns on one core of a Xeon at 2.5 GHz (0.33
ns without the histogram), with labels 1.14 ns; hence single labels are counted twice without
labels instead: all items, and those of the query's own class in a database sorted by class.
"""

import numba
import numpy as np

from hybridhash_jax.metrics.arguments import PackedItems, rows_of_classes
from hybridhash_jax.metrics.popcounts import BLOCK, distances, popcount, shared_labels
from hybridhash_jax.metrics.threads import in_threads


def count_by_grade(
    queries: PackedItems, database: PackedItems, by_class: bool, bits: int, grades: int
) -> np.ndarray:
    """Counts the database items at each distance that share g labels with each query.

    Args:
        queries, database, by_class, bits: from `arguments.pack_sides`.
        grades: G of the result, `arguments.grades`.

    Returns:
        int32 [Q, K + 1, G].
    """
    if by_class:
        return _count_by_class(queries, database, bits)
    counts = np.zeros((len(queries), bits + 1, grades), np.int32)
    one_word = len(queries.words) == len(queries.labels) == 1
    loop = _grades_of_four if one_word else _grades_of_each

    def run(part: slice) -> None:
        loop(
            np.ascontiguousarray(queries.words[:, part]),
            np.ascontiguousarray(queries.labels[:, part]),
            database.words,
            database.labels,
            counts[part],
        )

    in_threads(run, len(queries))
    return counts


def _count_by_class(queries: PackedItems, database: PackedItems, bits: int) -> np.ndarray:
    rows, start, stop = rows_of_classes(queries.labels[0], database.labels[0])
    words = np.ascontiguousarray(database.words[:, rows])
    begin, end = np.zeros(len(queries), np.int64), np.full(len(queries), len(database))
    counts = np.zeros((2, len(queries), bits + 1), np.int32)

    def run(part: slice) -> None:
        query_words = np.ascontiguousarray(queries.words[:, part])
        if len(words) == 1:
            _items_of_four(query_words, words, counts[0, part])
        else:
            _items_of_each(query_words, words, begin[part], end[part], counts[0, part])
        _items_of_each(query_words, words, start[part], stop[part], counts[1, part])

    in_threads(run, len(queries))
    counts[0] -= counts[1]
    return np.ascontiguousarray(np.moveaxis(counts, 0, 2))


@numba.njit(nogil=True, cache=True)
def _items_of_four(query_words: np.ndarray, words: np.ndarray, counts: np.ndarray) -> None:
    """Histograms of four queries in one pass; each has its own table, so that increments of the
    same distance in a row do not wait for each other.

    The last queries are counted again where their number is no multiple of four.
    """
    row, table = words[0], np.empty((4, counts.shape[1]), np.int32)
    table_a, table_b, table_c, table_d = table[0], table[1], table[2], table[3]
    last, one = counts.shape[0] - 1, np.int32(1)
    for first in range(0, counts.shape[0], 4):
        table[:] = 0
        a, b = query_words[0, first], query_words[0, min(first + 1, last)]
        c, d = query_words[0, min(first + 2, last)], query_words[0, min(first + 3, last)]
        for i in range(row.shape[0]):
            word = row[i]
            table_a[popcount(a ^ word)] += one
            table_b[popcount(b ^ word)] += one
            table_c[popcount(c ^ word)] += one
            table_d[popcount(d ^ word)] += one
        for k in range(4):
            counts[min(first + k, last)] = table[k]


@numba.njit(nogil=True, cache=True)
def _items_of_each(
    query_words: np.ndarray,
    words: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Histogram of each query over its own range of rows; codes of any number of words."""
    buffer = np.empty(BLOCK, np.uint16)
    for query in range(counts.shape[0]):
        table = counts[query]
        for first in range(start[query], stop[query], BLOCK):
            distance = buffer[: min(BLOCK, stop[query] - first)]
            distances(query_words[:, query].copy(), words, first, distance)
            for i in range(distance.shape[0]):
                table[distance[i]] += 1


@numba.njit(nogil=True, cache=True)
def _grades_of_four(
    query_words: np.ndarray,
    query_labels: np.ndarray,
    words: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
) -> None:
    """As `_items_of_four`, by distance and number of shared labels."""
    row, label_row = words[0], labels[0]
    grades = np.uint64(counts.shape[2])
    table = np.empty((4, counts.shape[1] * counts.shape[2]), np.int32)
    table_a, table_b, table_c, table_d = table[0], table[1], table[2], table[3]
    last, one = counts.shape[0] - 1, np.int32(1)
    for first in range(0, counts.shape[0], 4):
        table[:] = 0
        to_b, to_c, to_d = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a, b = query_words[0, first], query_words[0, to_b]
        c, d = query_words[0, to_c], query_words[0, to_d]
        of_a, of_b = query_labels[0, first], query_labels[0, to_b]
        of_c, of_d = query_labels[0, to_c], query_labels[0, to_d]
        for i in range(row.shape[0]):
            word, label = row[i], label_row[i]
            table_a[popcount(a ^ word) * grades + popcount(of_a & label)] += one
            table_b[popcount(b ^ word) * grades + popcount(of_b & label)] += one
            table_c[popcount(c ^ word) * grades + popcount(of_c & label)] += one
            table_d[popcount(d ^ word) * grades + popcount(of_d & label)] += one
        for k in range(4):
            counts[min(first + k, last)] = table[k].reshape(counts.shape[1:])


@numba.njit(nogil=True, cache=True)
def _grades_of_each(
    query_words: np.ndarray,
    query_labels: np.ndarray,
    words: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
) -> None:
    """The same for codes and labels of any number of words."""
    buffer, grades = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    size = words.shape[1]
    for query in range(counts.shape[0]):
        table = counts[query]
        for first in range(0, size, BLOCK):
            count = min(BLOCK, size - first)
            distance, grade = buffer[:count], grades[:count]
            distances(query_words[:, query].copy(), words, first, distance)
            shared_labels(query_labels[:, query].copy(), labels, first, grade)
            for i in range(count):
                table[distance[i], grade[i]] += 1
