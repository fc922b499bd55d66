"""Encoding a split and measuring how well its codes retrieve."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from hybridhash_jax import metrics, sharding
from hybridhash_jax.codes import binarize
from hybridhash_jax.console import logger
from hybridhash_jax.experiment import Experiment

Encode = Callable[[Any, jax.Array], jax.Array]


class EncodingStopped(Exception):
    """A signal asked to stop while codes were computed."""


def encode_split(
    encode: Encode,
    params: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    num_images: int,
    mesh: Mesh,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[int], object] = lambda images: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The codes of a split, every image exactly once.

    Args:
      encode: jitted, (params, images uint8) -> embeddings [B, K] on every device.
      params: the network's parameters.
      batches: this process's slices, in order; padding comes last and is cut off.
      num_images: N, the images of the split over all processes.
      mesh: what the batches are split over.
      should_stop: asked before each batch.
      on_batch: told how many images each finished batch had.

    Returns:
      int8 [N, K] in {-1, +1}, and bool [N]: False where the image could not be read and its code
      means nothing.

    Raises:
      EncodingStopped: `should_stop` said so.
      ValueError: embeddings are not a number (how many, and of which images).
    """
    codes: list[np.ndarray] = []
    readable: list[np.ndarray] = []
    previous: tuple[jax.Array, jax.Array] | None = None

    def fetch(embeddings: jax.Array, mask: jax.Array) -> None:
        first = sum(map(len, codes))
        values = np.asarray(embeddings)[: max(num_images - first, 0)]
        readable.append(np.asarray(mask)[: len(values)])
        try:
            codes.append(binarize(values))
        except ValueError as error:
            raise ValueError(f"images from number {first} on: {error}") from None
        on_batch(len(values))

    for batch in batches:
        if should_stop():
            raise EncodingStopped
        parts = sharding.put_batch({name: batch[name] for name in ("image", "mask")}, mesh)
        # Runs while the batch before is fetched.
        current = encode(params, parts["image"]), sharding.replicate(parts["mask"], mesh)
        if previous is not None:
            fetch(*previous)
        previous = current
    if previous is not None:
        fetch(*previous)
    return np.concatenate(codes), np.concatenate(readable)


def evaluate_codes(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
    top_k: int | None,
) -> dict[str, Any]:
    """The numbers of one evaluation.

    Returns:
      map_expected, map_stable (see `metrics`), queries_without_relevant, and of the database's
      codes: bit_balance (mean over bits of |mean of the bit|: 0 is balanced, 1 is all stuck),
      constant_bits, distinct_codes, largest_share (of the commonest code).
    """
    ranking = metrics.rank(query_codes, query_labels, database_codes, database_labels)
    statistics = metrics.code_statistics(database_codes)
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
    """Says in plain words that the codes have collapsed, and what to try; None if they have not.

    Collapsed: half of the database shares one code, or a quarter of the bits never changes, or
    there are fewer distinct codes than classes.
    """
    symptoms = []
    if record["largest_share"] >= 0.5:
        symptoms.append(f"{record['largest_share']:.0%} of the database has one and the same code")
    if record["constant_bits"] >= max(1, bits / 4):
        symptoms.append(f"{record['constant_bits']} of {bits} bits never change")
    if record["distinct_codes"] < num_classes:
        symptoms.append(f"only {record['distinct_codes']} codes for {num_classes} classes")
    if not symptoms:
        return None
    return (
        f"the codes have collapsed at epoch {record['epoch']:g}: {'; '.join(symptoms)}. Such codes "
        "cannot tell images apart. Try --config.loss.pairs=batch, a lower "
        "--config.optimizer.learning_rate or a warm-up (optimizer.schedule=warmup_cosine), and "
        "--config.model.initializer=fan_in when nothing pre-trained is loaded."
    )


def evaluate(
    experiment: Experiment,
    params: Any,
    step: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_images: Callable[[int], object] = lambda images: None,
) -> dict[str, Any]:
    """Encodes queries and database (and the validation images, where used) and measures.

    Returns:
      `evaluate_codes`' numbers with step, epoch, encode_seconds, metric_seconds,
      evaluate_seconds, images_per_second, queries and database (images measured), and
      validation_map_expected where it is used. Images that cannot be read are left out.

    Raises:
      DataError: an image cannot be read and data.on_unreadable is "error".
      ValueError: no query or nothing in the database could be read.
    """
    started = time.perf_counter()

    def codes_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with contextlib.closing(experiment.eval_batches(rows)) as batches:
            codes, readable = encode_split(
                experiment.encode,
                params,
                batches,
                len(rows),
                experiment.mesh,
                should_stop=should_stop,
                on_batch=on_images,
            )
        return codes[readable], experiment.dataset.labels[rows[readable]]

    splits = experiment.dataset.splits
    query, database = codes_of(splits.query), codes_of(splits.database)
    images, encoded = len(splits.query) + len(splits.database), time.perf_counter()
    record = {"step": step, "epoch": step / experiment.steps_per_epoch}
    record |= evaluate_codes(*query, *database, experiment.top_k)
    record |= {"queries": len(query[0]), "database": len(database[0])}
    measured = time.perf_counter()
    if len(experiment.held_out):
        record["validation_map_expected"] = metrics.mean_average_precision(
            *codes_of(experiment.held_out), *codes_of(experiment.train_rows), experiment.top_k
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
    return record
