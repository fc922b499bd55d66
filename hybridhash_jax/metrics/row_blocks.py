"""Stable places of items of any codes and labels, a block of rows at a time, for all queries.

The rows of a block stay in the first-level cache while every query of a part passes over them.
"""

from typing import Any

import numba
import numpy as np

from hybridhash_jax.metrics.popcounts import distances, popcount

_ROWS = 2048  # of a block
_0, _1, _3, _4 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(4)
_BYTE_LANES, _SHORT_LANES = np.uint64(0x0101010101010101), np.uint64(0x0001000100010001)
_FIND = np.int64(1) << np.int64(32)


@numba.njit(nogil=True, cache=True)
def start_groups(
    items: np.ndarray, relevant: np.ndarray, places: int, place: np.ndarray, found: np.ndarray
) -> int:
    """Writes what lies before each group; returns the last group that has one of the places."""
    before, relevant_before, last_group = 0, 0, 0
    for group in range(items.shape[0]):
        place[group], found[group] = before, relevant_before
        if before < places:
            last_group = group
        before += items[group]
        relevant_before += relevant[group]
    return last_group


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_near_rows(
    query_words: np.ndarray,
    query_labels: np.ndarray,
    words: np.ndarray,
    labels: np.ndarray,
    by_class: bool,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
    distance_type: Any,
    result: np.ndarray,
) -> None:
    """AP@places of each query; takes time for the rows of those groups only that have a place.

    Args:
        query_words: uint64 [Q, W].
        query_labels: unsigned [Q, L], class ids where `by_class`.
        words: uint64 [W, M].
        labels: unsigned [L, M].
        by_class: whether labels are class ids.
        items, relevant: int64 [Q, K + 1].
        places: k, 1 to M.
        distance_type: uint8 for K < 128, else uint16.
        result: float64 [Q], overwritten.
    """
    queries, groups, size = items.shape[0], items.shape[1], words.shape[1]
    table, last_group = np.empty((2, queries, groups), np.int32), np.empty(queries, np.int64)
    for query in range(queries):
        last_group[query] = start_groups(
            items[query], relevant[query], places, table[0, query], table[1, query]
        )
    totals, counts = np.zeros(queries), np.zeros(queries, np.int64)
    distance = np.zeros(_ROWS, distance_type)
    lanes = distance.view(np.uint64)
    a_word = np.uint64(_ROWS // lanes.shape[0])
    ones, shift = (_BYTE_LANES, _3) if a_word == 8 else (_SHORT_LANES, _4)
    high = ones << np.uint64((_1 << shift) - _1)
    for start in range(0, size, _ROWS):
        rows = min(_ROWS, size - start)
        for query in range(queries):
            distances(query_words[query], words, start, distance[:rows])
            place, found, label = table[0, query], table[1, query], query_labels[query]
            # Added to a lane, this sets its highest bit where the distance is beyond the last
            # group: neither exceeds the bits below it.
            margin = high - ones - ones * np.uint64(last_group[query])
            total, count = totals[query], counts[query]
            for word in range((rows + a_word - 1) // a_word):
                near = ~(lanes[word] + margin) & high
                while near != _0:
                    lane = popcount((near - _1) & ~near) >> shift
                    near &= near - _1
                    i = np.uint64(word) * a_word + lane
                    if i >= np.uint64(rows):
                        break
                    group = distance[i]
                    at = place[group] + np.int32(1)
                    place[group] = at
                    if at <= places and _is_relevant(label, labels, by_class, np.uint64(start) + i):
                        found[group] += np.int32(1)
                        total += found[group] / at
                        count += 1
            totals[query], counts[query] = total, count
    for query in range(queries):
        result[query] = totals[query] / max(counts[query], 1)


@numba.njit(nogil=True, cache=True)
def count_all_rows(
    query_words: np.ndarray,
    query_labels: np.ndarray,
    words: np.ndarray,
    labels: np.ndarray,
    by_class: bool,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
    distance_type: Any,
    result: np.ndarray,
) -> None:
    """The same for any share of rows; arguments are those of `count_near_rows`.

    A group's relevant items so far are the upper half of its counter, its place the lower. Two
    queries are served at once, so that counters do not wait; more have no registers left.
    """
    queries, size = items.shape[0], words.shape[1]
    counters = _start_counters(items, relevant, places)
    totals, counts = np.zeros(queries + 1), np.zeros(queries + 1, np.int64)
    distance, relevance = np.empty((2, _ROWS), distance_type), np.empty((2, _ROWS), np.bool_)
    kept = np.empty((2, _ROWS + 1), np.int64)
    distance_a, distance_b = distance[0], distance[1]
    relevance_a, relevance_b = relevance[0], relevance[1]
    kept_a, kept_b = kept[0], kept[1]
    for start in range(0, size, _ROWS):
        rows = min(_ROWS, size - start)
        for first in range(0, queries, 2):
            for k in range(2):
                query = min(first + k, queries - 1)
                distances(query_words[query], words, start, distance[k, :rows])
                _relevance(query_labels[query], labels, by_class, start, relevance[k, :rows])
            counter_a, counter_b = counters[first], counters[first + 1]
            count_a, count_b = _0, _0
            for i in range(rows):
                is_relevant = np.int64(relevance_a[i])
                counter = counter_a[distance_a[i]] + (is_relevant * _FIND + 1)
                counter_a[distance_a[i]] = kept_a[count_a] = counter
                count_a += np.uint64(is_relevant)
                is_relevant = np.int64(relevance_b[i])
                counter = counter_b[distance_b[i]] + (is_relevant * _FIND + 1)
                counter_b[distance_b[i]] = kept_b[count_b] = counter
                count_b += np.uint64(is_relevant)
            for k, kept_rows in enumerate((count_a, count_b)):
                total, count = _sum_precisions(kept[k, : np.int64(kept_rows)], places)
                totals[first + k] += total
                counts[first + k] += count
    for query in range(queries):
        result[query] = totals[query] / max(counts[query], 1)


@numba.njit(nogil=True, cache=True)
def _start_counters(items: np.ndarray, relevant: np.ndarray, places: int) -> np.ndarray:
    """int64 [Q + 1, K + 1]; the last row is for a second query that does not exist."""
    queries, groups = items.shape
    counters = np.zeros((queries + 1, groups), np.int64)
    place, found = np.empty(groups, np.int64), np.empty(groups, np.int64)
    for query in range(queries):
        start_groups(items[query], relevant[query], places, place, found)
        for group in range(groups):
            counters[query, group] = found[group] * _FIND + place[group]
    return counters


# Sums in any order, so that the divisions become vectors'.
@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _sum_precisions(counters: np.ndarray, places: int) -> tuple[float, int]:
    total, count = 0.0, 0
    for i in range(counters.shape[0]):
        at = counters[i] & (_FIND - 1)
        counts = at <= places
        total += (counters[i] >> 32) / at if counts else 0.0
        count += counts
    return total, count


@numba.njit(nogil=True, cache=True)
def _is_relevant(query: np.ndarray, labels: np.ndarray, by_class: bool, row: int) -> bool:
    if by_class:
        return query[0] == labels[0, row]
    for word in range(query.shape[0]):
        if query[word] & labels[word, row]:
            return True
    return False


@numba.njit(nogil=True, cache=True)
def _relevance(
    query: np.ndarray, labels: np.ndarray, by_class: bool, start: int, out: np.ndarray
) -> None:
    """Whether the items from `start` on share a label with the query, as many as in `out`."""
    of_query, row = query[0], labels[0, start : start + out.shape[0]]
    if by_class:
        for i in range(out.shape[0]):
            out[i] = of_query == row[i]
        return
    for i in range(out.shape[0]):
        out[i] = of_query & row[i] != 0
    for word in range(1, query.shape[0]):
        of_query, row = query[word], labels[word, start : start + out.shape[0]]
        for i in range(out.shape[0]):
            out[i] |= of_query & row[i] != 0
