"""Precision and recall by rank and by Hamming radius, averaged over the queries."""

import dataclasses
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64

from hybridhash_jax.metrics import arguments
from hybridhash_jax.metrics.ranking import Ranking

_TIES = ("expected", "optimistic", "pessimistic")


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Means over all queries in [0, 1]; `at` holds the ranks N, or the Hamming radii."""

    at: Int64[np.ndarray, "P"]
    precision: Float64[np.ndarray, "P"]
    recall: Float64[np.ndarray, "P"]


@dataclasses.dataclass(frozen=True)
class BallPrecision:
    """Mean precision inside a Hamming ball, 0 for an empty one; the share of empty balls."""

    precision: float
    empty_share: float


def curve_by_rank(
    ranking: Ranking, places: npt.ArrayLike | None = None, ties: str = "expected"
) -> Curve:
    """Computes precision@N and recall@N; drawn against each other, the curve by rank.

    precision@N = (relevant items in the first N) / N, recall@N = the same count / (relevant items
    of the query in the database), 0 for a query that has none; both are means over all queries.
    "expected" is exact: with m of the n items of a group taken, r of them relevant, m r / n
    relevant ones are expected. "optimistic" takes relevant ones first, "pessimistic" last.
    `places` are ranks N [P], integers of 1 or more in any order; those above M count as M. None
    takes `rank_grid(M)`.
    """
    arguments.check_ties(ties, _TIES)
    chosen = rank_grid(ranking.size) if places is None else arguments.check_places(places)
    at = np.minimum(chosen, ranking.size).astype(np.int64)
    found = np.empty((len(ranking.items), len(at)))
    for row, known_places, known in zip(found, *_found_by_place(ranking, ties), strict=True):
        row[:] = np.interp(at, known_places, known)
    total = np.maximum(ranking.relevant_total, 1)[:, None]
    return Curve(at, (found / at).mean(axis=0), (found / total).mean(axis=0))


def curve_by_radius(ranking: Ranking) -> Curve:
    """Computes precision and recall of the Hamming balls of radius 0..K (hash lookup).

    Precision is (relevant items within the radius) / (items within it), 0 where there are none;
    recall is (relevant items within it) / (relevant items of the query), 0 where there are none.
    Both are means over all queries. Ties play no part. At radius K the ball holds everything.
    """
    items = np.cumsum(ranking.items, axis=1)
    relevant = np.cumsum(ranking.relevant, axis=1)
    total = np.maximum(ranking.relevant_total, 1)
    return Curve(
        np.arange(ranking.items.shape[1], dtype=np.int64),
        (relevant / np.maximum(items, 1)).mean(axis=0),
        (relevant / total[:, None]).mean(axis=0),
    )


def ball_precision(ranking: Ranking, radius: SupportsIndex = 2) -> BallPrecision:
    """Computes P@H<=radius: precision of the items at most `radius` bits away.

    Args:
        ranking: from `rank`.
        radius: 0 or more; K and more holds the whole database.

    Raises:
        ValueError: `radius` is negative or no whole number.
    """
    radii = arguments.check_radius(radius) + 1
    items = ranking.items[:, :radii].sum(axis=1)
    relevant = ranking.relevant[:, :radii].sum(axis=1)
    return BallPrecision(
        float((relevant / np.maximum(items, 1)).mean()), float((items == 0).mean())
    )


def rank_grid(size: int, points: int = 200) -> Int64[np.ndarray, "P"]:
    """Chooses at most `points` ranks from 1 to `size`, evenly spaced on a log scale."""
    return np.unique(np.geomspace(1, size, points).round().astype(np.int64))


def _found_by_place(
    ranking: Ranking, ties: str
) -> tuple[Int64[np.ndarray, "Q points"], Int64[np.ndarray, "Q points"]]:
    """Points between which the relevant items found grow linearly: places, and found by then.

    Over a group of n items, r of them relevant, they grow evenly where orders are random. With the
    relevant ones first they stop growing after r places, with the others first they start after
    n - r.
    """
    items, relevant = ranking.items, ranking.relevant
    after, found_after = np.cumsum(items, axis=1), np.cumsum(relevant, axis=1)
    before, found_before = after - items, found_after - relevant
    points = [(before, found_before), (after, found_after)]
    if ties == "optimistic":
        points.insert(1, (before + relevant, found_after))
    elif ties == "pessimistic":
        points.insert(1, (after - relevant, found_before))
    places, found = (np.stack(x, axis=2).reshape(len(items), -1) for x in zip(*points, strict=True))
    return places, found
