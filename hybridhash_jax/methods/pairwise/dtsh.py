"""DTSH: deep supervised hashing with triplet labels (Wang et al., ACCV 2016).

An image's inner product with a similar image should be larger, by a margin, than that with a
dissimilar one: a triplet loses softplus(-x) with x = theta_ap - theta_an - margin. The loss is the
mean over an image's triplets, then over images, plus a weight times (z - sgn z)^2.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.hybridhash import similarity
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank, update_bank
from hybridhash_jax.methods.method import Examples, Method, everywhere, mean_where, signs, wide
from hybridhash_jax.methods.pairwise.pairs import (
    products,
    rows_at,
    triplet_counts,
    triplet_sums,
)
from input_pipeline.options import Option

OPTIONS = (
    Option("variant", "whose loss it is", ("deephash", "official")),
    Option("margin", "how much larger a similar image's inner product should be", at_least=0),
    Option("quantization", "weight of the quantization term", at_least=0),
    Option("samples", "bank rows that a batch meets", at_least=2),
    Option("seed", "of what is drawn from the bank", at_least=0, at_most=2**63 - 1),
)


@dataclasses.dataclass(frozen=True)
class DTSH(Method):
    """The published method.

    `variant` "deephash", DeepHash-pytorch's, takes all triplets inside a batch, an image also as
    its own positive, and theta is the inner product. "official" takes positives and negatives from
    a memory bank, outside the batch, and theta is half the inner product. The authors draw 50
    positives and 50 negatives of each other class for each image; here `samples` rows of the bank
    are drawn for each batch: 500 of 10 classes give as many triplets.
    """

    variant: str = "deephash"
    margin: float | None = None  # None: the variant's own, 5 and K/2
    quantization: float | None = (
        None  # None: the variant's own, 1 of a mean, 1/225 of sums over bits
    )
    samples: int = 500
    seed: int = 0

    title, paper = "DTSH", "Wang et al., ACCV 2016"
    head = "linear"
    group = "dtsh"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "dtsh.variant": "official",
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 5e-4,
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": (20, 40, 60, 80),
            "optimizer.step_factor": 2 / 3,
            "batch_size": 128,
            "num_epochs": 100,
        },
        "features": {"optimizer.learning_rate": 1e-2},
    }
    grid: ClassVar = {"quantization": (0.01, 0.1, 1.0)}

    @property
    def fewest_images(self) -> int:
        """An image and one that is dissimilar, unless there is a bank."""
        return 1 if self.variant == "official" else 2

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> MemoryBank | None:
        """An empty bank with "official", else None."""
        del key
        is_bank = self.variant == "official"
        return create_bank(len(labels), bits, labels.shape[1]) if is_bank else None

    def row_leaves(self, state: MemoryBank | None) -> Any:
        """All of the bank's arrays."""
        return everywhere(True, state)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: MemoryBank | None, step: jax.Array
    ) -> tuple[jax.Array, MemoryBank | None]:
        """See the class; images without a triplet only have the quantization term."""
        bits = outputs.shape[1]
        batch = outputs, examples.labels, examples.mask
        if state is None:
            margin = 5.0 if self.margin is None else self.margin
            ranking = triplet_loss(*batch, *batch, margin=margin)
            weight = 1 if self.quantization is None else self.quantization
            return ranking + weight / bits * quantization_loss(outputs, examples.mask), None
        gathered = examples.rows.gather((*batch, examples.index))
        batch, index = gathered[:3], gathered[3]
        bank = update_bank(state, index, *batch[:2])
        drawn = self._drawn(bank, index, step, examples)
        margin = bits / 2 if self.margin is None else self.margin
        ranking = triplet_loss(*batch, *drawn, margin=margin, scale=0.5)
        weight = 1 / 225 if self.quantization is None else self.quantization
        return ranking + weight * quantization_loss(batch[0], batch[2]), bank

    def _drawn(
        self, bank: MemoryBank, index: jax.Array, step: jax.Array, examples: Examples
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Embeddings, labels and mask of rows of the bank: seen, and not in the batch."""
        images = bank.num_images
        drawn = jnp.arange(images, dtype=index.dtype)
        if self.samples < images:
            key = jax.random.fold_in(jax.random.key(self.seed), step)
            drawn = jax.random.choice(key, drawn, (self.samples,), replace=False)
        numbers = (
            bank.embeddings,
            bank.labels.astype(jnp.int32),
            bank.seen.astype(jnp.int32)[:, None],
        )
        embeddings, labels, seen = rows_at(drawn, numbers, examples.rows)
        in_batch = (drawn[:, None] == index[None, :]).any(axis=1)
        return jax.lax.stop_gradient(embeddings), labels, (seen[:, 0] > 0) & ~in_batch


def triplet_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    others: Float[Array, "M K"],
    other_labels: Shaped[Array, "M classes"],
    other_mask: Bool[Array, " M"],
    *,
    margin: float,
    scale: float = 1.0,
) -> Float[Array, ""]:
    """The mean over images with a triplet of their means over triplets; 0 if there is none.

    Positives and negatives are among `others`; theta is `scale` times the inner product. As in
    DeepHash-pytorch, x is kept in [-100, 50], without a gradient outside.
    """
    theta = scale * products(outputs, others)
    pair_mask = mask[:, None] & other_mask[None, :]
    similar = similarity(labels, other_labels)
    positive, negative = similar & pair_mask, ~similar & pair_mask

    def term(difference: jax.Array) -> jax.Array:
        return jax.nn.softplus(-jnp.clip(difference - margin, -100, 50))

    sums = triplet_sums(theta, positive, negative, term)
    counts = triplet_counts(positive, negative, theta.dtype)
    return mean_where(sums / jnp.maximum(counts, 1), counts > 0)


def quantization_loss(outputs: Float[Array, "B K"], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The mean over images of sum_k (z_k - sgn z_k)^2."""
    z = wide(outputs)
    return mean_where(jnp.square(z - signs(z)).sum(axis=1), mask)
