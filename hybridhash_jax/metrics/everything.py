"""Every metric of a ranking at one cut-off."""

import dataclasses
from collections.abc import Callable
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float64

from hybridhash_jax.metrics import arguments, graded
from hybridhash_jax.metrics.average_precision import ranked_precisions
from hybridhash_jax.metrics.curves import (
    BallPrecision,
    Curve,
    ball_precision,
    curve_by_radius,
    curve_by_rank,
)
from hybridhash_jax.metrics.ranking import Ranking


@dataclasses.dataclass(frozen=True, eq=False)
class Measures:
    """What `measure` returns.

    Attributes:
        average_precisions: tie rule -> AP@k of each query.
        by_rank: expected over ties.
        ball: within radius 2.
        ndcg, acg, weighted_map: means over the queries at k; None where no query shares two labels
            with an item, as with one label an item: then they say nothing that mAP does not.
        queries_without_relevant: they count 0 everywhere.
    """

    average_precisions: dict[str, Float64[np.ndarray, "Q"]]
    by_rank: Curve
    by_radius: Curve
    ball: BallPrecision
    ndcg: float | None
    acg: float | None
    weighted_map: float | None
    queries_without_relevant: int

    @property
    def mean_average_precision(self) -> dict[str, float]:
        """Tie rule -> mAP@k."""
        return {ties: float(values.mean()) for ties, values in self.average_precisions.items()}


def measure(ranking: Ranking, top_k: SupportsIndex | None = None) -> Measures:
    """Computes every metric of a ranking at one k; None for the whole database.

    Raises:
        ValueError: `top_k` is below 1 or no whole number.
    """
    is_graded = bool(ranking.by_grade[..., 2:].any())

    def mean(metric: Callable[[Ranking, SupportsIndex | None], np.ndarray]) -> float | None:
        return float(metric(ranking, top_k).mean()) if is_graded else None

    return Measures(
        {ties: ranked_precisions(ranking, top_k, ties) for ties in arguments.TIE_RULES},
        curve_by_rank(ranking),
        curve_by_radius(ranking),
        ball_precision(ranking),
        mean(graded.discounted_gains),
        mean(graded.average_cumulative_gains),
        mean(graded.weighted_precisions),
        ranking.queries_without_relevant,
    )
