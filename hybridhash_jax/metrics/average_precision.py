"""Mean average precision, with the rule that orders items of equal distance always named."""

from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from hybridhash_jax.metrics import arguments
from hybridhash_jax.metrics.ranking import Ranking, rank


def mean_average_precision(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    top_k: SupportsIndex | None = None,
    ties: str = "expected",
) -> float:
    """Averages `average_precisions` over all queries; one with nothing relevant counts 0."""
    return float(
        average_precisions(
            query_codes, query_labels, database_codes, database_labels, top_k, ties
        ).mean()
    )


def average_precisions(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    top_k: SupportsIndex | None = None,
    ties: str = "expected",
) -> Float64[np.ndarray, "Q"]:
    """Computes AP@k of each query, with the database ranked by Hamming distance.

    Codes and labels are those of `rank`; `top_k` and `ties` those of `ranked_precisions`, which
    says what AP@k is. For several metrics of the same codes, `rank` once.

    Raises:
        ValueError: as `rank`, or `top_k` is below 1 or no whole number, or `ties` is unknown.
    """
    arguments.check_ties(ties)
    arguments.check_top_k(top_k, 1)
    ranking = rank(query_codes, query_labels, database_codes, database_labels)
    return ranked_precisions(ranking, top_k, ties)


def ranked_precisions(
    ranking: Ranking, top_k: SupportsIndex | None = None, ties: str = "expected"
) -> Float64[np.ndarray, "Q"]:
    """Computes AP@k of each query.

    AP@k = sum over the relevant places p <= k of (relevant up to p) / p, divided by the relevant
    items *found* in the first k; 0 when none is found there, as for a query that has none at all.
    `ties` orders equal distances:

    - "expected": the exact expectation over uniformly random orders, in closed form (McSherry and
      Najork 2008; He et al., "Hashing as Tie-Aware Learning to Rank", CVPR 2018). A group of n
      items, r relevant, behind N items with R relevant adds
      (r/n) sum over t = 1..n of [R + 1 + (t-1)(r-1)/(n-1)] / (N+t). Where k falls inside a group,
      the number of relevant items among its first places is hypergeometric, and the expectation
      is taken over it too (our extension). Depends on neither database order nor machine.
    - "stable": by (distance, database row), which depends on how the database is sorted.
    - "optimistic", "pessimistic": the largest and the least AP@k of any order. While k cuts no
      group these are relevant items first, and last. In a group that is cut that need not hold,
      since AP@k divides by what was found: a query with its only find at place 1 has AP 1, and one
      more at place 11 makes that (1 + 2/11) / 2. So every number of finds is tried.

    All four agree where every distance holds one item, and for all codes equal the expectation is
    that of a random order.

    Args:
        ranking: from `rank`.
        top_k: k, 1 or more; None, M and anything above M rank the whole database.
        ties: one of the four.

    Raises:
        ValueError: `top_k` is below 1 or no whole number, or `ties` is unknown.
    """
    from hybridhash_jax.metrics import pair_loops, precision_sums  # import Numba, 0.2 s

    arguments.check_ties(ties)
    places = arguments.check_top_k(top_k, ranking.size)
    items, relevant = ranking.items, ranking.relevant
    if ties == "stable":
        return pair_loops.stable_precisions(
            ranking.queries, ranking.database, ranking.by_class, items, relevant, places
        )
    harmonic = precision_sums.harmonic_numbers(ranking.size)
    result, other = np.empty(len(items)), np.empty(len(items))
    if ties == "expected":
        precision_sums.expected_precisions(items, relevant, relevant, places, harmonic, result)
    else:
        lowest, highest = (other, result) if ties == "optimistic" else (result, other)
        precision_sums.bounds(items, relevant, places, harmonic, lowest, highest)
    return result
