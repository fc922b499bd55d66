"""Graded relevance: how many labels an item shares with the query, as multi-label papers report.

All three are expectations over uniformly random orders inside each distance, exact (McSherry and
Najork 2008); 0 for a query with nothing relevant. k is 1 or more; None and more than M mean M.
"""

from typing import SupportsIndex

import numpy as np
from jaxtyping import Float64, Int64

from hybridhash_jax.metrics import arguments
from hybridhash_jax.metrics.ranking import Ranking

Groups = Int64[np.ndarray, "Q distances"]


def average_cumulative_gains(
    ranking: Ranking, top_k: SupportsIndex | None = None
) -> Float64[np.ndarray, "Q"]:
    """Computes ACG@k = (1/k) sum over the first k places of the number of shared labels.

    Järvelin and Kekäläinen (SIGIR 2000); for hashing Zhao et al., "Deep Semantic Ranking Based
    Hashing for Multi-Label Image Retrieval" (CVPR 2015). In a group that k cuts, each place
    expects the group's mean grade. `top_k` and errors are those of `ranked_precisions`; a query with
    nothing relevant has 0.
    """
    places = arguments.check_top_k(top_k, ranking.size)
    taken = _taken(ranking.items, places)
    mean = _grade_sums(ranking) / np.maximum(ranking.items, 1)
    return (taken * mean).sum(axis=1) / places


def discounted_gains(
    ranking: Ranking, top_k: SupportsIndex | None = None
) -> Float64[np.ndarray, "Q"]:
    """Computes NDCG@k = DCG@k / the DCG@k of the best order of the database.

    DCG@k = sum over places p <= k of (2^grade - 1) / log2(1 + p): Järvelin and Kekäläinen (TOIS
    2002) with the gain of Burges et al. (ICML 2005), as in Zhao et al. (CVPR 2015). Each place of
    a group expects the group's mean gain. `top_k` and errors are those of `ranked_precisions`; a
    query with nothing relevant has 0.
    """
    places = arguments.check_top_k(top_k, ranking.size)
    discount = _cumulative_discount(ranking.size)
    gains = np.exp2(np.arange(ranking.by_grade.shape[2], dtype=np.int64)) - 1
    mean = ranking.by_grade @ gains / np.maximum(ranking.items, 1)
    got = (mean * _discount_of_groups(ranking.items, places, discount)).sum(axis=1)
    best_first = ranking.by_grade.sum(axis=1, dtype=np.int64)[:, ::-1]
    best = _discount_of_groups(best_first, places, discount) @ gains[::-1]
    return np.divide(got, best, out=np.zeros_like(got), where=best > 0)


def weighted_precisions(
    ranking: Ranking, top_k: SupportsIndex | None = None
) -> Float64[np.ndarray, "Q"]:
    """Computes weighted AP@k of each query; their mean is the weighted mAP.

    Sum over the relevant places p <= k of ACG@p, divided by the relevant items found in the first
    k (Zhao et al., CVPR 2015): average precision with grades in place of ones, and equal to it
    where grades are 0 and 1. The expectation is that of `ranked_precisions`, with R replaced by
    the grades before, and 1 by the mean grade g of the group's relevant items: a group adds
    (r/n) sum over t = 1..n of [C + g + (t-1) g (r-1)/(n-1)] / (N+t). `top_k` and errors are those of
    `ranked_precisions`; a query with nothing relevant has 0.
    """
    from hybridhash_jax.metrics import precision_sums  # imports Numba, 0.2 s

    places = arguments.check_top_k(top_k, ranking.size)
    harmonic, result = precision_sums.harmonic_numbers(ranking.size), np.empty(len(ranking.items))
    precision_sums.expected_precisions(
        ranking.items, ranking.relevant, _grade_sums(ranking), places, harmonic, result
    )
    return result


def _grade_sums(ranking: Ranking) -> Int64[np.ndarray, "Q distances"]:
    return ranking.by_grade @ np.arange(ranking.by_grade.shape[2], dtype=np.int64)


def _taken(items: Groups, places: int) -> Groups:
    """How many items of each group lie in the first `places`."""
    before = np.cumsum(items, axis=1) - items
    return np.clip(places - before, 0, items)


def _discount_of_groups(
    items: Groups, places: int, discount: Float64[np.ndarray, "places"]
) -> Float64[np.ndarray, "Q distances"]:
    """Sum of 1 / log2(1 + p) over the places p <= `places` that each group takes."""
    end = np.minimum(np.cumsum(items, axis=1), places)
    start = np.minimum(np.cumsum(items, axis=1) - items, places)
    return discount[end] - discount[start]


def _cumulative_discount(size: int) -> Float64[np.ndarray, "places"]:
    """Sum of 1 / log2(1 + p) over p = 1..n, for n = 0..size; summed wider where possible."""
    terms = 1 / np.log2(np.arange(2, size + 2, dtype=np.longdouble))
    return np.concatenate([[0.0], np.cumsum(terms).astype(np.float64)])
