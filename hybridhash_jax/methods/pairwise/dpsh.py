"""DPSH: deep pairwise-supervised hashing (Li et al., IJCAI 2016).

The likelihood of pairs with theta = z . u / 2, of an image's output z and a row u of a memory bank:
a pair loses softplus(theta) - s theta. Outputs are drawn to their signs by (z - sgn z)^2.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hybridhash_jax.methods.bank_pairs import BATCH_WEIGHT, BankMethod
from hybridhash_jax.methods.hybridhash import pair_sums
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank
from hybridhash_jax.methods.method import Examples, everywhere, mean_where, signs, wide
from hybridhash_jax.methods.pairwise.pairs import mean_over_pairs
from input_pipeline.options import Option

OPTIONS = (
    Option("variant", "whose loss it is", ("official", "deephash")),
    Option("quantization", "weight of the quantization term", at_least=0),
    Option("unseen", "bank rows not seen yet", ("ignored", "negative")),
    BATCH_WEIGHT,
)
_QUANTIZATION = {"official": 10.0, "deephash": 0.1}


@dataclasses.dataclass(frozen=True)
class DPSH(BankMethod):
    """The published method.

    `variant` "official" divides both sums, over pairs and over bits, by B n, with the n training
    images; "deephash", DeepHash-pytorch's, takes a mean of each. Bank rows not seen yet are, by
    `unseen`, "ignored", or "negative" as in both codes: dissimilar to everything, which adds log 2
    each and no gradient. `batch_weight` times the mean over pairs inside the batch is added.
    """

    variant: str = "official"
    quantization: float | None = None  # eta; None: the variant's own, 10 and .1
    unseen: str = "ignored"

    title, paper = "DPSH", "Li et al., IJCAI 2016"
    head = "linear"
    group = "dpsh"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "dpsh.batch_weight": 0.0,
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.05,
            "optimizer.weight_decay": 1e-5,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": (50, 100),
            "batch_size": 128,
            "num_epochs": 150,
        },
        "features": {"dpsh.quantization": 50.0},
    }
    grid: ClassVar = {"quantization": (1.0, 10.0, 50.0)}

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> MemoryBank:
        """An empty bank."""
        del key
        return create_bank(len(labels), bits, labels.shape[1])

    def row_leaves(self, state: MemoryBank) -> Any:
        """All of the bank's arrays."""
        return everywhere(True, state)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: MemoryBank, step: jax.Array
    ) -> tuple[jax.Array, MemoryBank]:
        """See the class; the pairs' part is HybridHash's sums, not weighted by kind."""
        del step
        of_pairs = functools.partial(pair_sums, alpha=0.5)
        found = self.compare(outputs, examples, state, of_pairs, unseen=self.unseen)
        sums, bank, (outputs, _, mask) = found.of_bank, found.bank, found.batch
        z = wide(outputs)
        errors = mean_where(jnp.square(z - signs(z)).sum(axis=1), mask)
        own = _QUANTIZATION[self.variant]
        weight = own if self.quantization is None else self.quantization
        if self.variant == "deephash":
            value = mean_over_pairs(sums) + weight / outputs.shape[1] * errors
        else:
            images = jnp.maximum(jnp.sum(mask, dtype=z.dtype), 1)
            pairs = (sums.positive + sums.negative) / images
            value = (pairs + weight * errors) / bank.num_images
        if found.of_batch is not None:
            value += self.weight_of_batch * mean_over_pairs(found.of_batch)
        return value, bank
