"""A database ranked by Hamming distance for each query, kept as counts a distance.

All items at one distance tie, so the number of items at each distance, by how many labels they
share with the query, decides every metric except those that break ties by database row.
"""

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, Int64

from hybridhash_jax.metrics import arguments


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What `rank` returns; the other functions of this package take it.

    `by_grade` counts the items at distance 0..K that share 0..G-1 labels with the query; with one
    label an item, G is 2. `by_class`: labels are packed as class ids.
    """

    by_grade: Int32[np.ndarray, "Q distances grades"]
    queries: arguments.PackedItems
    database: arguments.PackedItems
    by_class: bool

    @property
    def size(self) -> int:
        """M, the number of database items."""
        return len(self.database)

    @functools.cached_property
    def items(self) -> Int64[np.ndarray, "Q distances"]:
        """Items at each distance."""
        return self.by_grade.sum(axis=2, dtype=np.int64)

    @functools.cached_property
    def relevant(self) -> Int64[np.ndarray, "Q distances"]:
        """Items at each distance that share a label with the query."""
        return self.items - self.by_grade[..., 0]

    @functools.cached_property
    def relevant_total(self) -> Int64[np.ndarray, "Q"]:
        """Relevant items in the whole database."""
        return self.relevant.sum(axis=1)

    @property
    def queries_without_relevant(self) -> int:
        """How many queries share no label with any item; every metric of theirs is 0."""
        return int(np.count_nonzero(self.relevant_total == 0))


def rank(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
) -> Ranking:
    """Compares every query with every database item, once for all metrics.

    Codes are [Q, K] and [M, K] of -1/+1 or 0/1; labels of both sides multi-hot [N, classes], or
    integer class ids [N]. Anything else, and an empty side, is a ValueError. Takes 4 (K + 1) G
    bytes a query and about a nanosecond a pair and core.
    """
    from hybridhash_jax.metrics import pair_loops  # imports Numba, 0.2 s

    queries, database, by_class, bits = arguments.pack_sides(
        query_codes, query_labels, database_codes, database_labels
    )
    grades = arguments.grades(queries, database, by_class)
    counts = pair_loops.count_by_grade(queries, database, by_class, bits, grades)
    return Ranking(counts, queries, database, by_class)
