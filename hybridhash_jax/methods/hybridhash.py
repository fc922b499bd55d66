"""HybridHash's own method (He & Wei, ICMR 2024): pairs, against a memory bank or inside the batch.

Weighted maximum likelihood over pairs (HashNet, Cao et al., ICCV 2017). For a pair of embeddings
u, v with theta = alpha * u . v and similarity s in {0, 1}, l = softplus(theta) - s * theta. The loss
is the mean of l over the similar pairs plus its mean over the dissimilar pairs.

The memory bank keeps the last embedding seen of every training image. A batch is written into it
before the loss is taken, so every image is compared with itself too; no gradient flows into it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.bank_pairs import BATCH_WEIGHT, BankMethod, PairSums, bank_sums
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank
from hybridhash_jax.methods.method import Examples, Rows, everywhere
from input_pipeline.options import Option


def alpha_for(alpha: float | str, bits: int) -> float:
    """The scale at one code length: `alpha` itself; of "NUMBER/bits" the quotient.

    A ValueError says what is accepted.
    """
    number, slash, divisor = str(alpha).partition("/")
    try:
        scale = float(number)
    except ValueError:
        scale = math.nan
    known = divisor == "bits" if isinstance(alpha, str) else not isinstance(alpha, bool)
    if not (known and 0 < scale < math.inf):
        raise ValueError(
            "give a number above 0, such as 0.5, or NUMBER/bits, such as 6.4/bits, which falls with "
            "the code length"
        )
    return scale / bits if slash else scale


def alpha_problem(alpha: Any) -> str | None:
    """What is wrong with an `alpha`, see `alpha_for`; None for nothing."""
    try:
        alpha_for(alpha, 1)
    except ValueError as error:
        return str(error)
    return None


OPTIONS = (
    Option("pairs", "what a batch is compared with", ("bank", "batch")),
    Option("unseen", "bank rows not seen yet", ("ignored", "negative")),
    Option("alpha", "scale of the inner products", problem=alpha_problem),
    BATCH_WEIGHT,
)


@dataclasses.dataclass(frozen=True)
class HybridHash(BankMethod):
    """The published method.

    `pairs` "bank" compares a batch with the memory bank, "batch" with itself. Bank rows not seen
    yet are, by `unseen`, "ignored", or "negative": dissimilar to everything, as in the authors'
    code, which adds log 2 each and no gradient. `alpha` is the scale of the inner products; see `alpha_for`.
    `batch_weight` times the loss of "batch" is added to that of "bank"; see `BankMethod`.
    """

    pairs: str = "bank"
    unseen: str = "ignored"
    alpha: float | str = 0.5

    title, paper = "HybridHash", "He & Wei, ICMR 2024"
    group = "loss"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "loss.pairs": "bank",
            "loss.alpha": 0.5,
            "loss.batch_weight": 0.0,
            "optimizer.name": "rmsprop",
            "optimizer.learning_rate": 2.5e-5,
            "optimizer.weight_decay": 1e-5,
            "optimizer.schedule": "constant",
            "optimizer.warmup_epochs": 0.0,
            "batch_size": 64,
            "num_epochs": 15,
        },
    }

    @property
    def uses_bank(self) -> bool:
        """With `pairs` "bank"."""
        return self.pairs == "bank"

    @property
    def fewest_images(self) -> int:
        """Those of a pair, unless there is a bank."""
        return 1 if self.uses_bank else 2

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> MemoryBank | None:
        """An empty bank; None with pairs="batch"."""
        del key
        return create_bank(len(labels), bits, labels.shape[1]) if self.uses_bank else None

    def row_leaves(self, state: MemoryBank | None) -> Any:
        """All of the bank's arrays."""
        return everywhere(True, state)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: MemoryBank | None, step: jax.Array
    ) -> tuple[jax.Array, MemoryBank | None]:
        """See `batch_loss` and `bank_loss`."""
        del step
        alpha = alpha_for(self.alpha, outputs.shape[1])
        if state is None:
            return batch_loss(outputs, examples.labels, examples.mask, alpha=alpha), None
        of_pairs = functools.partial(pair_sums, alpha=alpha)
        found = self.compare(outputs, examples, state, of_pairs, unseen=self.unseen)
        value = found.of_bank.loss()
        if found.of_batch is not None:
            value += self.weight_of_batch * found.of_batch.loss()
        return value, found.bank


def similarity(
    labels: Shaped[Array, "B classes"], other_labels: Shaped[Array, "M classes"]
) -> Bool[Array, "B M"]:
    """Is a label of the multi-hot labels shared?"""
    shared = labels.astype(jnp.float32) @ other_labels.astype(jnp.float32).T
    return shared > 0.5


def pair_sums(
    embeddings: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    other_embeddings: Float[Array, "M K"],
    other_labels: Shaped[Array, "M classes"],
    pair_mask: Bool[Array, "B M"],
    *,
    alpha: float,
) -> PairSums:
    """The sums over the pairs of one and the other that `pair_mask` keeps.

    Labels are multi-hot; the sums are float32, or float64 where the embeddings are.
    """
    dtype = jnp.float64 if embeddings.dtype == jnp.float64 else jnp.float32
    theta = alpha * jnp.matmul(
        embeddings.astype(dtype), other_embeddings.astype(dtype).T, precision="highest"
    )
    similar = similarity(labels, other_labels)
    positive, negative = similar & pair_mask, ~similar & pair_mask
    return PairSums(
        jnp.sum(jnp.where(positive, jax.nn.softplus(-theta), 0)),
        jnp.sum(jnp.where(negative, jax.nn.softplus(theta), 0)),
        jnp.sum(positive, dtype=jnp.float32),
        jnp.sum(negative, dtype=jnp.float32),
    )


def bank_loss(
    embeddings: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    bank: MemoryBank,
    *,
    alpha: float = 0.5,
    unseen: str = "ignored",
    rows: Rows | None = None,
) -> jax.Array:
    """Loss of a batch against the memory bank, into which the batch was already written.

    `mask` is False for padding; `alpha` and `unseen` are those of `HybridHash`; `rows` says how the
    bank lies on the devices, None whole on each of them.
    """
    of_pairs = functools.partial(pair_sums, alpha=alpha)
    return bank_sums((embeddings, labels, mask), bank, of_pairs, unseen=unseen, rows=rows).loss()


def batch_loss(
    embeddings: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    *,
    alpha: float = 0.5,
) -> Float[Array, ""]:
    """Loss over the pairs inside a batch, gradient through both sides; no image with itself."""
    different = ~jnp.eye(embeddings.shape[0], dtype=bool)
    pair_mask = mask[:, None] & mask[None, :] & different
    return pair_sums(embeddings, labels, embeddings, labels, pair_mask, alpha=alpha).loss()
