"""DNNH: simultaneous feature learning and hash coding (Lai et al., CVPR 2015).

The head cuts the feature into a slice for every bit. With F = sigmoid(z) of its outputs, a triplet
of an image, a similar and a dissimilar one loses max(0, m + |F_a - F_p|^2 - |F_a - F_n|^2). The paper
then sends F to 0 below 1/2 - e and to 1 above 1/2 + e. (That and m = 1 are told from memory of the
paper; the value of e is not known.)
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hybridhash_jax.methods.hybridhash import similarity
from hybridhash_jax.methods.method import Examples, Method, wide
from hybridhash_jax.methods.pairwise.pairs import (
    pairs_within,
    squared_distances,
    triplet_counts,
    triplet_sums,
)
from input_pipeline.options import Option

OPTIONS = (
    Option("margin", "how much further a dissimilar image should be", above=0),
    Option(
        "threshold", "how far from 1/2 values of the sigmoid stay as they are", above=0, at_most=0.5
    ),
)


@dataclasses.dataclass(frozen=True)
class DNNH(Method):
    """The published method; its triplets are all those inside a batch, not prepared ones."""

    margin: float = 1.0  # m; 2 in a port to Caffe that starts from the authors' files
    threshold: float = 0.5  # e; 0.5: the sigmoid itself, as in that port

    title, paper = "DNNH", "Lai et al., CVPR 2015"
    head = "divide_and_encode"
    group = "dnnh"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 1e-3,
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            # 100,000 iterations, the rate falls at 60,000 and 70,000: 50 are an epoch.
            "optimizer.step_epochs": (1200, 1400),
            "batch_size": 100,
            "num_epochs": 2000,
        },
        "features": {"dnnh.margin": 4.0},
    }
    grid: ClassVar = {"margin": (1.0, 2.0, 4.0)}

    @property
    def fewest_images(self) -> int:
        """Those of a triplet."""
        return 3

    def loss(
        self, outputs: jax.Array, examples: Examples, state: None, step: jax.Array
    ) -> tuple[jax.Array, None]:
        """The mean over all triplets of different images."""
        del step
        values = encoded(outputs, self.threshold)
        similar = similarity(examples.labels, examples.labels)
        pair_mask = pairs_within(examples.mask)
        kinds = similar & pair_mask, ~similar & pair_mask
        return triplet_loss(values, values, *kinds, margin=self.margin), state


def encoded(outputs: Float[Array, "B K"], threshold: float) -> Float[Array, "B K"]:
    """F of the module's docstring, e being `threshold`."""
    values = jax.nn.sigmoid(wide(outputs))
    stays = jnp.abs(values - 0.5) <= threshold
    return jnp.where(stays, values, (values > 0.5).astype(values.dtype))


def triplet_loss(
    values: Float[Array, "A K"],
    others: Float[Array, "M K"],
    positive: Bool[Array, "A M"],
    negative: Bool[Array, "A M"],
    *,
    margin: float,
) -> Float[Array, ""]:
    """The mean over all (anchor, one of its positives, one of its negatives); 0 for none."""
    distances = squared_distances(values, others)

    def term(difference: jax.Array) -> jax.Array:
        return jnp.maximum(margin + difference, 0)

    sums = triplet_sums(distances, positive, negative, term)
    counts = triplet_counts(positive, negative, distances.dtype)
    return sums.sum() / jnp.maximum(counts.sum(), 1)
