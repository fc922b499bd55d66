"""What codes are measured against: the ranking of the features that they are made from."""

from typing import Any

from hybridhash_jax import metrics
from hybridhash_jax.codes.files import CodeSet
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.runtime.console import logger, progress

_MOST_PAIRS = 10**9  # about a minute
# By all that it depends on: the runs of a sweep share it.
_measured: dict[tuple[Any, ...], float] = {}


def cosine_baseline(exp: Experiment, query: CodeSet, database: CodeSet) -> list[dict[str, Any]]:
    """The cosine ranking of the features of queries and database, for `report_content`.

    An empty list where no vectors are at hand, or there are too many.
    """
    if exp.vectors_id is None or query.rows is None or database.rows is None:
        return []
    if len(query) * len(database) > _MOST_PAIRS:
        logger.info("the ranking of the features is left out: over %s pairs", f"{_MOST_PAIRS:,}")
        return []
    source, sides = exp.batch_sources.evaluation, (query.rows, database.rows)
    key = exp.vectors_id, exp.dataset.checksum, *(rows.tobytes() for rows in sides), exp.top_k
    first = source.images(query.rows[:1], None)[0]
    if key not in _measured:
        with progress("ranking features by their cosine"):
            vectors = [source.images(rows, None)[0] for rows in sides]
            _measured[key] = float(
                metrics.cosine_average_precisions(
                    vectors[0], query.labels, vectors[1], database.labels, exp.top_k
                ).mean()
            )
    return [
        {
            "name": "cosine of the features",
            "map_expected": _measured[key],
            "dimensions": first.shape[1],
            "bytes_per_image": first.nbytes,
        }
    ]
