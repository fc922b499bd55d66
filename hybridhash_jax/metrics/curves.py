"""Precision and recall by rank and by Hamming radius, averaged over the queries."""

import dataclasses

import numba
import numpy as np
import numpy.typing as npt

from hybridhash_jax.metrics import arguments
from hybridhash_jax.metrics.ranking import Ranking

_TIES = ("expected", "optimistic", "pessimistic")


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Means over all queries.

    Attributes:
        at: int64 [P], the ranks N, or the Hamming radii.
        precision: float64 [P], in [0, 1].
        recall: float64 [P], in [0, 1].
    """

    at: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


@dataclasses.dataclass(frozen=True)
class BallPrecision:
    """Precision of the items inside a Hamming ball.

    Attributes:
        precision: mean over all queries; an empty ball counts 0.
        empty_share: share of the queries whose ball is empty, in [0, 1].
    """

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

    Args:
        ranking: from `rank`.
        places: [P] ranks N, each 1 or more, in any order; above M they count as M, since there
            are no more items. None takes `rank_grid(M)`.
        ties: "expected", "optimistic" or "pessimistic".

    Raises:
        ValueError: a place is below 1 or no integer, or `ties` is none of the three.
    """
    arguments.check_ties(ties, _TIES)
    chosen = rank_grid(ranking.size) if places is None else np.asarray(places)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer) or (chosen < 1).any():
        raise ValueError(f"places must be integers [P] of 1 or more; got {places!r}.")
    chosen = np.minimum(chosen.astype(np.int64), ranking.size)
    at, where = np.unique(chosen, return_inverse=True)
    found, recall = np.zeros(len(at)), np.zeros(len(at))
    _add_found(ranking.items, ranking.relevant, at, _TIES.index(ties), found, recall)
    queries = len(ranking.items)
    return Curve(chosen, (found / at / queries)[where], (recall / queries)[where])


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
        np.arange(items.shape[1]),
        (relevant / np.maximum(items, 1)).mean(axis=0),
        (relevant / total[:, None]).mean(axis=0),
    )


def ball_precision(ranking: Ranking, radius: int = 2) -> BallPrecision:
    """Computes P@H<=radius: precision of the items at most `radius` bits away.

    Args:
        ranking: from `rank`.
        radius: 0 or more; K and more holds the whole database.

    Raises:
        ValueError: `radius` is negative.
    """
    if radius < 0:
        raise ValueError(f"radius must be 0 or more; got {radius}.")
    items = ranking.items[:, : radius + 1].sum(axis=1)
    relevant = ranking.relevant[:, : radius + 1].sum(axis=1)
    return BallPrecision(
        float((relevant / np.maximum(items, 1)).mean()), float((items == 0).mean())
    )


def rank_grid(size: int, points: int = 200) -> np.ndarray:
    """Chooses at most `points` ranks from 1 to `size`, int64, evenly spaced on a log scale.

    Small ranks are integers that lie apart, so there are fewer than asked for.
    """
    return np.unique(np.geomspace(1, size, points).round().astype(np.int64))


@numba.njit(nogil=True, cache=True)
def _add_found(
    items: np.ndarray,
    relevant: np.ndarray,
    at: np.ndarray,
    rule: int,
    found: np.ndarray,
    recall: np.ndarray,
) -> None:
    """Adds the relevant items in the first `at` places (ascending), and their share, over queries.

    `rule` is the index in `_TIES`.
    """
    for query in range(items.shape[0]):
        total = max(relevant[query].sum(), 1)
        before, relevant_before, group = 0, 0, 0
        for i in range(at.shape[0]):
            while before + items[query, group] < at[i]:
                before += items[query, group]
                relevant_before += relevant[query, group]
                group += 1
            n, r, taken = items[query, group], relevant[query, group], at[i] - before
            if rule == 0:
                count = relevant_before + taken * r / n
            elif rule == 1:
                count = float(relevant_before + min(taken, r))
            else:
                count = float(relevant_before + max(0, taken - (n - r)))
            found[i] += count
            recall[i] += count / total
