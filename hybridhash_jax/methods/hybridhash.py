"""HybridHash's own method (He & Wei, ICMR 2024): pairs, against a memory bank or inside the batch.

Weighted maximum likelihood over pairs (HashNet, Cao et al., ICCV 2017). For a pair of embeddings
u, v with theta = alpha * u . v and similarity s in {0, 1}, l = softplus(theta) - s * theta. The loss
is the mean of l over the similar pairs plus its mean over the dissimilar pairs.

The memory bank keeps the last embedding seen of every training image. A batch is written into it
before the loss is taken, so every image is compared with itself too; no gradient flows into it.

Against the bank alone, a network that starts at random collapses: what all codes have in common
answers to rows of steps ago, overshoots, and outgrows the classes. Pairs inside the batch, whose both
sides are of now, hold it back; they are added as in cross-batch memory (Wang et al., CVPR 2020).
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank, update_bank
from hybridhash_jax.methods.method import Examples, Method, Rows, WholeRows, everywhere
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
    Option("batch_weight", "weight of a batch's own pairs beside the bank", at_least=0),
)

# Numbers of a block of the bank, its pairs with the batch among them: 16 MiB of float32.
_BLOCK = 1 << 22


@dataclasses.dataclass(frozen=True)
class HybridHash(Method):
    """The published method.

    `pairs` "bank" compares a batch with the memory bank, "batch" with itself. Bank rows not seen
    yet are, by `unseen`, "ignored", or "negative": dissimilar to everything, as in the authors'
    code, which adds log 2 each and no gradient. `alpha` is the scale of the inner products; see `alpha_for`.
    `batch_weight` times the loss of "batch" is added to that of "bank"; 0 is the published method.
    """

    pairs: str = "bank"
    unseen: str = "ignored"
    alpha: float | str = 0.5
    batch_weight: float | None = None  # None: 1 from random parameters, 0 from trained ones
    from_scratch: bool = False  # of the run, which fills it in

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

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> MemoryBank | None:
        """An empty bank; None with pairs="batch"."""
        del key
        return create_bank(len(labels), bits, labels.shape[1]) if self.pairs == "bank" else None

    def row_leaves(self, state: MemoryBank | None) -> Any:
        """All of the bank's arrays."""
        return everywhere(True, state)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: MemoryBank | None, step: jax.Array
    ) -> tuple[jax.Array, MemoryBank | None]:
        """See `batch_loss` and `bank_loss`."""
        del step
        alpha = alpha_for(self.alpha, outputs.shape[1])
        own, rows = (outputs, examples.labels, examples.mask, examples.index), examples.rows
        if state is None:
            return batch_loss(*own[:3], alpha=alpha), None
        outputs, labels, mask, index = batch = rows.gather(own)
        bank = update_bank(state, index, outputs, labels)
        options: dict[str, Any] = {"unseen": self.unseen, "rows": rows}
        if not (weight := self.weight_of_batch):
            return bank_loss(outputs, labels, mask, bank, alpha=alpha, **options), bank
        of_pairs = functools.partial(pair_sums, alpha=alpha)
        of_bank, of_batch = bank_and_batch_sums(batch, own, bank, of_pairs, **options)
        return of_bank.loss() + weight * of_batch.loss(), bank

    @property
    def weight_of_batch(self) -> float:
        """What `batch_weight` stands for in this run."""
        return float(self.from_scratch) if self.batch_weight is None else self.batch_weight


def similarity(
    labels: Shaped[Array, "B classes"], other_labels: Shaped[Array, "M classes"]
) -> Bool[Array, "B M"]:
    """Is a label of the multi-hot labels shared?"""
    shared = labels.astype(jnp.float32) @ other_labels.astype(jnp.float32).T
    return shared > 0.5


class PairSums(NamedTuple):
    """Sums over a set of pairs; additive over disjoint sets of pairs.

    Of the loss over similar (`positive`) and over dissimilar pairs; and their numbers, float32.
    """

    positive: jax.Array
    negative: jax.Array
    similar: jax.Array
    dissimilar: jax.Array

    def loss(self) -> jax.Array:
        """Mean over the similar pairs plus mean over the dissimilar ones; 0 for none.

        Written as the authors compute it, sum / |S| times the weight |S| / |S1|, with the weight in
        float32 whatever the loss is in: a float64 loss then equals theirs to the last digits.
        """
        pairs = jnp.maximum(self.similar + self.dissimilar, 1)
        of_similar = pairs / jnp.maximum(self.similar, 1)
        of_dissimilar = pairs / jnp.maximum(self.dissimilar, 1)
        return self.positive / pairs * of_similar + self.negative / pairs * of_dissimilar


Arrays = tuple[jax.Array, jax.Array, jax.Array]
IndexedBatch = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


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


def bank_sums(
    batch: Arrays,
    bank: MemoryBank,
    of_pairs: Callable[..., PairSums],
    *,
    unseen: str = "ignored",
    rows: Rows | None = None,
) -> PairSums:
    """The sums over the pairs of a batch (embeddings, labels, mask) and the bank's rows.

    `of_pairs` has the arguments of `pair_sums`; all others are those of `bank_loss`.
    """
    sums = functools.partial(_sums_over_rows, of_pairs=of_pairs)
    return (rows or WholeRows()).sum_over(sums)(batch, _compared(bank, unseen))


def bank_and_batch_sums(
    batch: IndexedBatch,
    own: IndexedBatch,
    bank: MemoryBank,
    of_pairs: Callable[..., PairSums],
    *,
    unseen: str,
    rows: Rows,
) -> tuple[PairSums, PairSums]:
    """`bank_sums`, and the sums over pairs of different images in the batch, by both sides.

    `batch` is (embeddings, labels, mask, index) as `rows.gather` gives it, `own` what it was given.
    Each device takes its own part of the rows and of the batch, and all is added up at once.
    """

    def sums(batch: IndexedBatch, parts: Any) -> tuple[PairSums, PairSums]:
        (embeddings, labels, mask, index), (compared, own) = batch, parts
        different = index[:, None] != own[3][None, :]
        pair_mask = mask[:, None] & own[2][None, :] & different
        of_bank = _sums_over_rows((embeddings, labels, mask), compared, of_pairs=of_pairs)
        return of_bank, of_pairs(embeddings, labels, *own[:2], pair_mask)

    return rows.sum_over(sums)(batch, (_compared(bank, unseen), own))


def _compared(bank: MemoryBank, unseen: str) -> Arrays:
    """The bank's embeddings, labels, and which rows count."""
    used = bank.seen if unseen == "ignored" else jnp.ones_like(bank.seen)
    if bank.num_images < len(used):
        used &= jnp.arange(len(used)) < bank.num_images
    return jax.lax.stop_gradient(bank.embeddings), bank.labels, used


def _sums_over_rows(batch: Arrays, bank: Arrays, *, of_pairs: Callable[..., PairSums]) -> PairSums:
    """The sums over a batch and some rows of the bank, of a large bank in blocks of rows.

    A block's pairs are computed again in the backward pass, so that the memory is one block's.
    """
    embeddings, labels, mask = batch

    def of_rows(embeddings: jax.Array, others: jax.Array, classes: jax.Array, used: jax.Array):
        return of_pairs(embeddings, labels, others, classes, mask[:, None] & used[None, :])

    rows = len(bank[0])
    block = min(rows, max(_BLOCK // (len(mask) + embeddings.shape[1] + labels.shape[1]), 1))
    if block == rows:
        return of_rows(embeddings, *bank)

    @jax.checkpoint
    def of_block(embeddings: jax.Array, number: jax.Array) -> PairSums:
        # The last block begins early enough to be whole; its first rows were in the one before.
        first = jnp.minimum(number * block, rows - block)
        others, classes, used = (jax.lax.dynamic_slice_in_dim(x, first, block) for x in bank)
        fresh = first + jnp.arange(block) >= number * block
        return of_rows(embeddings, others, classes, used & fresh)

    def add(sums: PairSums, number: jax.Array) -> tuple[PairSums, None]:
        return jax.tree.map(jnp.add, sums, of_block(embeddings, number)), None

    numbers = jnp.arange(-(-rows // block))
    return jax.lax.scan(add, of_block(embeddings, numbers[0]), numbers[1:])[0]


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
