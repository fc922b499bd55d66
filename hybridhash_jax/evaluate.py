"""Encoding queries and database and measuring how well their codes retrieve."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hybridhash_jax import metrics
from hybridhash_jax.codes.files import CodeSet
from hybridhash_jax.encode import encode_split
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.workdir.checkpoints import fingerprint, flatten


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation: its numbers, and the codes that they were measured on.

    Attributes:
      record: `evaluate_codes`' numbers with step, epoch, queries and database (images measured),
        parameters_fingerprint, encode_seconds, metric_seconds, evaluate_seconds,
        images_per_second, and validation_map_expected where it is used.
      query, database: without the images that cannot be read.
    """

    record: dict[str, Any]
    query: CodeSet
    database: CodeSet


def evaluate_codes(query: CodeSet, database: CodeSet, top_k: int | None) -> dict[str, Any]:
    """The numbers of one evaluation.

    Returns:
      map_expected, map_stable (see `metrics`), queries_without_relevant, and of the database's
      codes: bit_balance (mean over bits of |mean of the bit|: 0 is balanced, 1 is all stuck),
      constant_bits, distinct_codes, largest_share (of the commonest code).
    """
    codes = database.codes
    ranking = metrics.rank(query.codes, query.labels, codes, database.labels)
    statistics = metrics.code_statistics(codes)
    return {
        "map_expected": float(metrics.ranked_precisions(ranking, top_k, "expected").mean()),
        "map_stable": float(metrics.ranked_precisions(ranking, top_k, "stable").mean()),
        "queries_without_relevant": ranking.queries_without_relevant,
        "bit_balance": float(np.abs(statistics.bit_balance).mean()),
        "constant_bits": statistics.constant_bits,
        "distinct_codes": statistics.distinct_codes,
        "largest_share": statistics.largest_share,
    }


def collapse_warning(record: Mapping[str, Any], bits: int, num_classes: int) -> str | None:
    """Says in plain words that the codes have collapsed, and what to try; None if they have not."""
    symptoms = metrics.collapse_symptoms(
        bits,
        num_classes,
        constant_bits=record["constant_bits"],
        distinct_codes=record["distinct_codes"],
        largest_share=record["largest_share"],
    )
    if not symptoms:
        return None
    return (
        f"the codes have collapsed at epoch {record['epoch']:g}: {'; '.join(symptoms)}. Such codes "
        "cannot tell images apart. Try --config.loss.pairs=batch, a lower "
        "--config.optimizer.learning_rate or a warm-up (optimizer.warmup_epochs), and "
        "--config.model.initializer=fan_in when nothing pre-trained is loaded."
    )


def evaluate(
    experiment: Experiment,
    params: Any,
    step: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_images: Callable[[int], object] = lambda images: None,
) -> Evaluation:
    """Encodes queries and database (and the validation images, where used) and measures.

    Raises:
      DataError: an image cannot be read and data.on_unreadable is "error".
      EncodingStopped: `should_stop` said so.
      ValueError: embeddings are NaN, or no query or nothing in the database could be read.
    """
    started = time.perf_counter()
    model = model_fingerprint(params)

    def encode(rows: np.ndarray) -> CodeSet:
        return _encode_rows(experiment, params, rows, model, should_stop, on_images)

    splits = experiment.dataset.splits
    query, database = encode(splits.query), encode(splits.database)
    images, encoded = len(splits.query) + len(splits.database), time.perf_counter()
    record = {"step": step, "epoch": step / experiment.steps_per_epoch}
    record |= evaluate_codes(query, database, experiment.top_k)
    record |= {"queries": len(query), "database": len(database), "parameters_fingerprint": model}
    measured = time.perf_counter()
    if len(experiment.held_out):
        held_out, train = encode(experiment.held_out), encode(experiment.train_rows)
        record["validation_map_expected"] = metrics.mean_average_precision(
            held_out.codes, held_out.labels, train.codes, train.labels, experiment.top_k
        )
    record |= {
        "encode_seconds": encoded - started,
        "metric_seconds": measured - encoded,
        "evaluate_seconds": time.perf_counter() - started,
        "images_per_second": images / (encoded - started),
    }
    if step and (
        warning := collapse_warning(record, experiment.bits, len(experiment.dataset.class_names))
    ):
        logger.warning("%s", warning)
    return Evaluation(record, query, database)


def encode_sides(
    experiment: Experiment, params: Any, should_stop: Callable[[], bool]
) -> tuple[CodeSet, CodeSet]:
    """The codes of queries and database, as `evaluate` makes them; errors as there."""
    model, splits = model_fingerprint(params), experiment.dataset.splits
    query, database = (
        _encode_rows(experiment, params, rows, model, should_stop, lambda images: None)
        for rows in (splits.query, splits.database)
    )
    return query, database


def model_fingerprint(params: Any) -> str:
    """Eight hex digits that are the same for bit-identical parameters, and hardly for others."""
    return f"{sum(fingerprint(flatten(params)).values()) % 2**32:08x}"


def _encode_rows(
    experiment: Experiment,
    params: Any,
    rows: np.ndarray,
    model: str,
    should_stop: Callable[[], bool],
    on_images: Callable[[int], object],
) -> CodeSet:
    dataset, names = experiment.dataset, experiment.image_names(rows)
    with contextlib.closing(experiment.eval_batches(rows)) as batches:
        packed, readable = encode_split(
            experiment.encode,
            params,
            batches,
            names,
            experiment.mesh,
            should_stop=should_stop,
            on_batch=on_images,
        )
    return CodeSet(
        packed[readable],
        experiment.bits,
        dataset.labels[rows[readable]],
        names=names[readable],
        rows=rows[readable],
        class_names=dataset.class_names,
        fingerprint=model,
        protocol=dataset.protocol,
        top_k=experiment.top_k,
    )
