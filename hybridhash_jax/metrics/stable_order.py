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
    buffer = np.empty(BLOCK, np.uint16)
    place, found = np.empty(groups, np.int64), np.empty(groups, np.int64)
    for query in range(items.shape[0]):
        last_group = _start_groups(items[query], relevant[query], places, place, found)
        label = query_labels[:, query].copy()
        total, count = 0.0, 0
        for first in range(0, size, BLOCK):
            distance = buffer[: min(BLOCK, size - first)]
            distances(query_words[:, query].copy(), words, first, distance)
            for i in range(distance.shape[0]):
                group = distance[i]
                if group > last_group:
                    continue
                place[group] += 1
                if place[group] > places:
                    continue
                if by_class:
                    is_relevant = label[0] == labels[0, first + i]
                else:
                    is_relevant = False
                    for word in range(label.shape[0]):
                        is_relevant |= label[word] & labels[word, first + i] != _0
                if is_relevant:
                    found[group] += 1
                    total += found[group] / place[group]
                    count += 1
        result[query] = total / count if count else 0.0


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
