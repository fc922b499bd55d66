"""A database ranked by Hamming distance for each query, kept as counts a distance.

All ranks tie inside a distance, so the number of items at each distance, by how many labels they
share with the query, decides every metric except those that break ties by database row.
"""

import dataclasses
import functools
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hybridhash_jax.metrics import arguments, device_counts, pair_loops

Place = Literal["host", "device"]
PLACES = get_args(Place)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What `rank` returns; the other functions of this package take it.

    Attributes:
        by_grade: int32 [Q, K + 1, G], items at distance 0..K that share 0..G-1 labels with the
            query. With one label an item, G is 2.
        queries, database: the packed codes and labels.
        by_class: whether those labels are class ids.
        on: where it was counted, and where "stable" precisions are.
    """

    by_grade: np.ndarray
    queries: arguments.PackedItems
    database: arguments.PackedItems
    by_class: bool
    on: Place = "host"

    @property
    def size(self) -> int:
        """M, the number of database items."""
        return len(self.database)

    @functools.cached_property
    def items(self) -> np.ndarray:
        """int64 [Q, K + 1], items at each distance."""
        return self.by_grade.sum(axis=2, dtype=np.int64)

    @functools.cached_property
    def relevant(self) -> np.ndarray:
        """int64 [Q, K + 1], those of them that share a label with the query."""
        return self.items - self.by_grade[..., 0]

    @functools.cached_property
    def relevant_total(self) -> np.ndarray:
        """int64 [Q], relevant items in the whole database."""
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
    on: Place = "host",
) -> Ranking:
    """Compares every query with every database item, once for all metrics.

    Takes 4 (K + 1) G bytes a query and about a nanosecond a pair and core; no array of Q x M
    exists. One query, one item, and codes whose length is no multiple of 8 are nothing special.

    Args:
        query_codes: [Q, K] of -1/+1 or 0/1.
        query_labels: multi-hot [Q, classes], or integer class ids [Q].
        database_codes: [M, K], as the queries'.
        database_labels: [M, classes] or [M], of the same kind as the queries'.
        on: "host" counts in threads of this machine; "device" on all devices of JAX in this
            process, see `device_counts`. Both count the same.

    Raises:
        ValueError: lengths or widths differ, either side is empty, values are no codes or no
            labels, or `on` is neither.
    """
    if on not in PLACES:
        raise ValueError(f'on must be "host" or "device"; got {on!r}.')
    queries, database, by_class, bits = arguments.pack_sides(
        query_codes, query_labels, database_codes, database_labels
    )
    grades = arguments.grades(queries, database, by_class)
    count = device_counts.count_by_grade if on == "device" else pair_loops.count_by_grade
    counts = count(queries, database, by_class, bits, grades)
    return Ranking(counts, queries, database, by_class, on)
