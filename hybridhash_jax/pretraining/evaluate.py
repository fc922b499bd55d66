"""Top-1, top-5 and the loss of a classifier on images that it was not trained on."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout, compile_on_batches
from hybridhash_jax.methods import classification

Sums = Mapping[str, jax.Array]
Measure = Callable[[Any, Mapping[str, jax.Array]], Sums]
_TOP = 5


class EvaluationStopped(Exception):
    """A signal asked to stop during an evaluation."""


def compile_measure(
    classify: Callable[[Any, jax.Array], jax.Array], mesh: Mesh, layout: Layout | None = None
) -> Measure:
    """Jits (params, batch) -> sums over the batch's images: top1, top5, loss, images.

    Args:
      classify: (params, images uint8 [B, H, W, 3]) -> logits [B, classes].
      mesh: what a batch, with image, label [B, classes] one-hot and mask [B], is split over.
      layout: where the parameters lie; None is on every device.
    """

    def measure(params: Any, batch: Mapping[str, jax.Array]) -> Sums:
        logits, mask = classify(params, batch["image"]), batch["mask"]
        class_ids = jnp.argmax(batch["label"], axis=1)
        top1 = classification.is_among_top(logits, class_ids, 1)
        top5 = classification.is_among_top(logits, class_ids, _TOP)
        images = jnp.sum(mask)
        mean = classification.soft_cross_entropy(logits, batch["label"], mask)
        return {
            "top1": jnp.sum(top1 & mask),
            "top5": jnp.sum(top5 & mask),
            "loss": mean * images,
            "images": images,
        }

    return compile_on_batches(measure, mesh, layout)


def measure_classifier(
    measure: Measure,
    params: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    mesh: Mesh,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_images: Callable[[int], object] = lambda images: None,
) -> dict[str, Any]:
    """The numbers of one evaluation.

    Args:
      measure: from `compile_measure`.
      params: the network's parameters.
      batches: this process's slices, in order.
      mesh: what the batches are split over.
      should_stop: asked before each batch.
      on_images: told how many images each finished batch had.

    Returns:
      top1 and top5 (shares of right answers, 0 to 1), loss (mean cross entropy), validation
      (images that could be read), evaluate_seconds, images_per_second.

    Raises:
      EvaluationStopped: `should_stop` said so.
      ValueError: there is no image, or none can be read.
    """
    started = time.perf_counter()
    totals = dict.fromkeys(("top1", "top5", "loss", "images"), 0.0)

    def fetch(sums: Sums) -> None:
        for name in totals:
            totals[name] += float(np.asarray(sums[name]))
        on_images(int(np.asarray(sums["images"])))

    previous: Sums | None = None
    for batch in batches:
        if should_stop():
            raise EvaluationStopped
        kept = {name: batch[name] for name in ("image", "label", "mask")}
        # Runs while the sums before are fetched.
        current = measure(params, sharding.put_batch(kept, mesh))
        if previous is not None:
            fetch(previous)
        previous = current
    if previous is not None:
        fetch(previous)
    if not totals["images"]:
        raise ValueError("none of the validation images could be read; there is nothing to measure")
    seconds, images = time.perf_counter() - started, totals["images"]
    return {
        "top1": totals["top1"] / images,
        "top5": totals["top5"] / images,
        "loss": totals["loss"] / images,
        "validation": int(images),
        "evaluate_seconds": seconds,
        "images_per_second": images / seconds,
    }
