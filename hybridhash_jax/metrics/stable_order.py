"""Average precision with ties in the order of database rows, compiled by Numba.

Sorting is not needed: the sizes of the groups say at which place each distance begins, so one pass
over the rows knows the place of every item. Which pass is fastest depends on what is asked:

- One label an item, codes of one word: four queries at a time count their groups as plainly as
  `pair_loops` does, from one relevant row to the next; only at those is anything else done.
- Few of the rows within the first k places' groups: distances are written by vectors, eight rows
  are tested at a time, and most eights hold none that counts (`row_blocks`).
- Otherwise every row is counted, and the places of the relevant rows are collected without a
  branch, since several labels make relevance hard to predict (`row_blocks`).

Floor: a popcount and an increment a pair, as in `pair_loops`: 0.62 ns on one core of a Xeon at 2.5
GHz. Measured in turns with it, the first way took 1.5 times that with 100 classes and 2.2 times
with 10, where a tenth of all rows is relevant, which costs a division and a share of a mispredicted
branch each. The second took 1.5 times at k = 5000 of 193,734, where 3 % of the rows count and each
costs a branch or two; the third 3.3 times, since it reads distances and relevance back from
memory. A single loop for all took 2 to 8 times.
"""

from typing import Any

import numba
import numpy as np

from hybridhash_jax.metrics.arguments import PackedItems, narrow, rows_of_classes
from hybridhash_jax.metrics.popcounts import popcount
from hybridhash_jax.metrics.row_blocks import count_all_rows, count_near_rows, start_groups
from hybridhash_jax.metrics.threads import in_threads

_FEW = 0.1  # share of the rows up to which picking them takes less than counting all


def stable_precisions(
    queries: PackedItems,
    database: PackedItems,
    by_class: bool,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
) -> np.ndarray:
    """AP@places with ties in the order of database rows, float64 [Q].

    Args:
        queries, database, by_class: from `arguments.pack_sides`.
        items, relevant: int64 [Q, K + 1], how many items lie at each distance.
        places: k, 1 to M.
    """
    if by_class and len(database.words) == 1:
        return _from_relevant_row_to_row(queries, database, items, relevant, places)
    both = narrow(np.concatenate([queries.labels, database.labels], axis=1))
    query_labels = both[:, : len(queries)].T
    database_labels = np.ascontiguousarray(both[:, len(queries) :])
    distance_type = np.uint8 if items.shape[1] <= 128 else np.uint16
    few = _near_share(items, places) < _FEW
    result = np.empty(len(queries))

    def run(part: slice) -> None:
        loop = count_near_rows if few else count_all_rows
        loop(
            np.ascontiguousarray(queries.words[:, part].T),
            np.ascontiguousarray(query_labels[part]),
            database.words,
            database_labels,
            by_class,
            items[part],
            relevant[part],
            places,
            distance_type,
            result[part],
        )

    in_threads(run, len(queries))
    return result


def _near_share(items: np.ndarray, places: int) -> float:
    """Share of all pairs that lie in groups which have one of the first places."""
    before = np.cumsum(items, axis=1) - items
    return float(items[before < places].sum() / items.sum())


def _from_relevant_row_to_row(
    queries: PackedItems,
    database: PackedItems,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
) -> np.ndarray:
    # Queries of the same class side by side have the same relevant rows, so all four stop at once.
    order = np.argsort(narrow(queries.labels[0]), kind="stable")
    rows, start, stop = rows_of_classes(queries.labels[0][order], database.labels[0])
    words = queries.words[0][order]
    result = np.empty(len(queries))

    def run(part: slice) -> None:
        chosen, values = order[part], np.empty(len(order[part]))
        _four_at_a_time(
            words[part],
            database.words[0],
            rows,
            start[part],
            stop[part],
            items[chosen],
            relevant[chosen],
            places,
            values,
        )
        result[chosen] = values

    in_threads(run, len(queries))
    return result


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _four_at_a_time(
    queries: np.ndarray,
    words: np.ndarray,
    rows: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    items: np.ndarray,
    relevant: np.ndarray,
    places: int,
    result: np.ndarray,
) -> None:
    """Relevant to query q are `rows[start[q] : stop[q]]`, ascending; codes have one word.

    The last queries are computed again where their number is no multiple of four.
    """
    size, last = words.shape[0], result.shape[0] - 1
    one, limit = np.int32(1), np.int32(places)
    table = np.empty((2, 4, items.shape[1]), np.int32)
    place, found = table[0], table[1]
    place_a, place_b, place_c, place_d = place[0], place[1], place[2], place[3]
    found_a, found_b, found_c, found_d = found[0], found[1], found[2], found[3]
    at, following = np.empty(4, np.int64), np.empty(4, np.int64)
    for first in range(0, result.shape[0], 4):
        for k in range(4):
            query = min(first + k, last)
            start_groups(items[query], relevant[query], places, place[k], found[k])
            at[k] = start[query] - 1
            following[k] = -1
        a, b = queries[first], queries[min(first + 1, last)]
        c, d = queries[min(first + 2, last)], queries[min(first + 3, last)]
        same, end = start[first] == start[min(first + 3, last)], stop[first]
        total_a, total_b, total_c, total_d = 0.0, 0.0, 0.0, 0.0
        count_a, count_b, count_c, count_d = 0, 0, 0, 0
        row = -1
        while True:
            begin = row + 1
            if same:
                at[0] += 1
                row = rows[at[0]] if at[0] < end else size
            else:
                for k in range(4):
                    if following[k] == row:
                        at[k] += 1
                        more = at[k] < stop[min(first + k, last)]
                        following[k] = rows[at[k]] if more else size
                row = min(min(following[0], following[1]), min(following[2], following[3]))
            for i in range(begin, row):
                word = words[i]
                place_a[popcount(a ^ word)] += one
                place_b[popcount(b ^ word)] += one
                place_c[popcount(c ^ word)] += one
                place_d[popcount(d ^ word)] += one
            if row == size:
                break
            word = words[row]
            add, found_one = _add_row(
                a ^ word, place_a, found_a, same or following[0] == row, limit
            )
            total_a, count_a = total_a + add, count_a + found_one
            add, found_one = _add_row(
                b ^ word, place_b, found_b, same or following[1] == row, limit
            )
            total_b, count_b = total_b + add, count_b + found_one
            add, found_one = _add_row(
                c ^ word, place_c, found_c, same or following[2] == row, limit
            )
            total_c, count_c = total_c + add, count_c + found_one
            add, found_one = _add_row(
                d ^ word, place_d, found_d, same or following[3] == row, limit
            )
            total_d, count_d = total_d + add, count_d + found_one
        totals = (total_a, total_b, total_c, total_d)
        counts = (count_a, count_b, count_c, count_d)
        for k in range(4):
            result[min(first + k, last)] = totals[k] / max(counts[k], 1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_row(
    different: Any, place: np.ndarray, found: np.ndarray, relevant: bool, limit: Any
) -> tuple[Any, Any]:
    """Counts a row into its group; returns its precision and 1 where it counts, 0 and 0 else."""
    group = popcount(different)
    at = place[group] + np.int32(1)
    place[group] = at
    finds = found[group] + np.int32(relevant)
    found[group] = finds
    counts = relevant and at <= limit
    return finds / at if counts else 0.0, np.int64(counts)
