"""Retrieval quality of binary codes: exact metrics with explicit ties, and code health.

`rank` compares all pairs once, and the metrics take its result; `measure` computes all of them.
"""

from hybridhash_jax.metrics.arguments import TIE_RULES
from hybridhash_jax.metrics.average_precision import (
    average_precisions,
    mean_average_precision,
    ranked_precisions,
)
from hybridhash_jax.metrics.code_health import CodeStatistics, code_statistics, collapse_symptoms
from hybridhash_jax.metrics.cosine import cosine_average_precisions
from hybridhash_jax.metrics.curves import (
    BallPrecision,
    Curve,
    ball_precision,
    curve_by_radius,
    curve_by_rank,
    rank_grid,
)
from hybridhash_jax.metrics.everything import Measures, measure
from hybridhash_jax.metrics.graded import (
    average_cumulative_gains,
    discounted_gains,
    weighted_precisions,
)
from hybridhash_jax.metrics.ranking import Ranking, rank

__all__ = [
    "TIE_RULES",
    "BallPrecision",
    "CodeStatistics",
    "Curve",
    "Measures",
    "Ranking",
    "average_cumulative_gains",
    "average_precisions",
    "ball_precision",
    "code_statistics",
    "collapse_symptoms",
    "cosine_average_precisions",
    "curve_by_radius",
    "curve_by_rank",
    "discounted_gains",
    "mean_average_precision",
    "measure",
    "rank",
    "rank_grid",
    "ranked_precisions",
    "weighted_precisions",
]
