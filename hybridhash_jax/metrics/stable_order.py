"""Average precision with ties in the order of database rows, compiled by Numba."""

import numba
import numpy as np

from hybridhash_jax.metrics.arguments import PackedItems
from hybridhash_jax.metrics.popcounts import BLOCK, distances
from hybridhash_jax.metrics.threads import in_threads

_0 = np.uint64(0)


def stable_precisions(
    queries: PackedItems,
    database: PackedItems,
    by_class: bool,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
) -> np.ndarray:
    """AP@places with ties in the order of database rows, float64 [Q].

    Sorting is not needed: the sizes of the groups say at which place each distance begins, so one
    pass over the rows knows the place of every item.

    Args:
        queries, database, by_class: from `arguments.pack_sides`.
        items, relevant: int64 [Q, K + 1], how many items lie at each distance.
        places: k, 1 to M.
    """
    result = np.empty(len(queries))

    def run(part: slice) -> None:
        _stable(
            np.ascontiguousarray(queries.words[:, part]),
            np.ascontiguousarray(queries.labels[:, part]),
            database.words,
            database.labels,
            by_class,
            items[part],
            relevant[part],
            places,
            result[part],
        )

    in_threads(run, len(queries))
    return result


@numba.njit(nogil=True, cache=True)
def _stable(
    query_words: np.ndarray,
    query_labels: np.ndarray,
    words: np.ndarray,
    labels: np.ndarray,
    by_class: bool,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
    result: np.ndarray,
) -> None:
    size, groups = words.shape[1], items.shape[1]
    distance_buffer, relevance_buffer = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.bool_)
    place, found = np.empty(groups, np.int32), np.empty(groups, np.int32)
    for query in range(items.shape[0]):
        last_group = _start_groups(items[query], relevant[query], places, place, found)
        word, label = query_words[:, query].copy(), query_labels[:, query].copy()
        total, count = 0.0, 0
        for first in range(0, size, BLOCK):
            distance = distance_buffer[: min(BLOCK, size - first)]
            relevance = relevance_buffer[: distance.shape[0]]
            distances(word, words, first, distance)
            _relevance(label, labels, by_class, first, relevance)
            for i in range(distance.shape[0]):
                group = distance[i]
                if group > last_group:
                    continue
                at = place[group] + np.int32(1)
                place[group] = at
                if relevance[i] and at <= places:
                    finds = found[group] + np.int32(1)
                    found[group] = finds
                    total += finds / at
                    count += 1
        result[query] = total / count if count else 0.0


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
        out[i] = of_query & row[i] != _0
    for word in range(1, query.shape[0]):
        of_query, row = query[word], labels[word, start : start + out.shape[0]]
        for i in range(out.shape[0]):
            out[i] |= of_query & row[i] != _0


@numba.njit(nogil=True, cache=True)
def _start_groups(
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
