"""DSH: deep supervised hashing (Liu et al., CVPR 2016).

The squared distance D of two images' outputs z is a loss if they are similar; if they are not, what
D lacks to a margin m = 2 K is. The loss is half the mean over pairs of s D + (1 - s) max(m - D, 0),
plus a times the mean over images of sum_k | |z_k| - 1 |, which draws outputs to -1 and +1.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.bank_pairs import BATCH_WEIGHT, BankMethod, PairSums
from hybridhash_jax.methods.hybridhash import similarity
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank
from hybridhash_jax.methods.method import Examples, everywhere, mean_where, wide
from hybridhash_jax.methods.pairwise.pairs import (
    mean_over_pairs,
    pairs_within,
    squared_distances,
    sums_by_kind,
)
from input_pipeline.options import Option

OPTIONS = (
    Option("variant", "whose loss it is", ("official", "caffe", "weixu000", "deephash")),
    Option("quantization", "weight of the quantization term", at_least=0),
    Option("margin", "squared distance asked for, as a multiple of the bits", above=0),
    Option("unseen", "bank rows not seen yet", ("ignored", "negative")),
    BATCH_WEIGHT,
)
# Each one's weight of the mean over images of sum_k | |z_k| - 1 |; "deephash": over bits as well.
_QUANTIZATION = {"official": 0.01, "caffe": 0.01, "weixu000": 0.02, "deephash": 0.1}


@dataclasses.dataclass(frozen=True)
class DSH(BankMethod):
    """The published method.

    `variant` "official" is the loss of the authors' code over the pairs of different images in a
    batch. "caffe" has the gradient of that code too, of which the pairs' part is half the true one.
    "weixu000", a port to PyTorch, also compares images with themselves. "deephash",
    DeepHash-pytorch's, compares the batch with a memory bank, whose rows not seen yet are, by
    `unseen`, "ignored" or, as there, "negative": dissimilar to everything.
    `batch_weight` times the loss inside the batch is added there.
    """

    variant: str = "official"
    quantization: float | None = None  # a; None: the variant's own, .01, .01, .02 and .1
    margin: float = 2.0
    unseen: str = "ignored"

    title, paper = "DSH", "Liu et al., CVPR 2016"
    head = "linear"
    group = "dsh"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 1e-3,
            "optimizer.weight_decay": 4e-3,
            "optimizer.schedule": "step",
            # 70,000 iterations, the rate falls at 60,000 and 65,000: 25 are an epoch.
            "optimizer.step_epochs": (2400, 2600),
            "batch_size": 200,
            "num_epochs": 2800,
        },
        "features": {"optimizer.learning_rate": 1e-2},
    }
    grid: ClassVar = {"quantization": (0.001, 0.01, 0.1)}

    @property
    def uses_bank(self) -> bool:
        """With "deephash"."""
        return self.variant == "deephash"

    @property
    def fewest_images(self) -> int:
        """Those of a pair, unless there is a bank."""
        return 1 if self.uses_bank else 2

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> MemoryBank | None:
        """An empty bank with "deephash", else None."""
        del key
        return create_bank(len(labels), bits, labels.shape[1]) if self.uses_bank else None

    def row_leaves(self, state: MemoryBank | None) -> Any:
        """All of the bank's arrays."""
        return everywhere(True, state)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: MemoryBank | None, step: jax.Array
    ) -> tuple[jax.Array, MemoryBank | None]:
        """See the module's docstring."""
        del step
        margin = self.margin * outputs.shape[1]
        mask = examples.mask

        def sums(*pairs: jax.Array) -> PairSums:
            return pair_sums(*pairs, margin=margin)

        if state is None:
            pair_mask = pairs_within(mask, with_itself=self.variant == "weixu000")
            batch = outputs, examples.labels
            value = mean_over_pairs(sums(*batch, *batch, pair_mask)) / 2
        else:
            found = self.compare(outputs, examples, state, sums, unseen=self.unseen)
            (outputs, _, mask), state = found.batch, found.bank
            value = mean_over_pairs(found.of_bank) / 2
            if found.of_batch is not None:
                value += self.weight_of_batch * mean_over_pairs(found.of_batch) / 2
        if self.variant == "caffe":
            value = value / 2 + jax.lax.stop_gradient(value / 2)
        return value + self._weight(outputs.shape[1]) * quantization_loss(outputs, mask), state

    def _weight(self, bits: int) -> float:
        """Of the mean over images."""
        own = _QUANTIZATION[self.variant]
        weight = own if self.quantization is None else self.quantization
        return weight / bits if self.variant == "deephash" else weight


def pair_sums(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    others: Float[Array, "M K"],
    other_labels: Shaped[Array, "M classes"],
    pair_mask: Bool[Array, "B M"],
    *,
    margin: float,
) -> PairSums:
    """Sums of D over similar pairs, and of max(margin - D, 0) over dissimilar ones."""
    distances = squared_distances(outputs, others)
    similar = similarity(labels, other_labels)
    return sums_by_kind(distances, jnp.maximum(margin - distances, 0), similar, pair_mask)


def quantization_loss(outputs: Float[Array, "B K"], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The mean over images of sum_k | |z_k| - 1 |."""
    return mean_where(jnp.abs(jnp.abs(wide(outputs)) - 1).sum(axis=1), mask)
