"""Pairs of a batch with the rows of a memory bank, and beside them those inside the batch.

Against the bank alone a network that starts at random collapses: what all its codes have in common
answers to rows of steps ago, overshoots, and outgrows what tells classes apart (docs/bank.md). The
pairs inside the batch, both of whose sides are of now, hold it back. They are added to those with
the bank, as in cross-batch memory (Wang et al., CVPR 2020).
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hybridhash_jax.methods.memory_bank import MemoryBank, update_bank
from hybridhash_jax.methods.method import Examples, Method, Rows, WholeRows
from input_pipeline.options import Option

OF_BANKS = ("unseen", "batch_weight")  # fields that mean nothing without a bank
BATCH_WEIGHT = Option("batch_weight", "weight of a batch's own pairs beside the bank", at_least=0)

# Numbers of a block of the bank, its pairs with the batch among them: 16 MiB of float32.
_BLOCK = 1 << 22


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
OfPairs = Callable[..., PairSums]


class Compared(NamedTuple):
    """A batch that was compared with a bank, and with itself where that has a weight."""

    batch: Arrays  # embeddings, labels and mask, whole on every device if the bank is split
    bank: MemoryBank  # into which the batch was written
    of_bank: PairSums
    of_batch: PairSums | None


@dataclasses.dataclass(frozen=True)
class BankMethod(Method):
    """A method that compares a batch with a memory bank.

    `batch_weight` is that of the pairs inside the batch beside those with the bank; 0 for none, as
    published; None: 1 where the network starts at random, else 0.
    """

    batch_weight: float | None = dataclasses.field(default=None, kw_only=True)
    # Of the run, which fills it in: does the network start at random?
    from_scratch: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def uses_bank(self) -> bool:
        """Do these options ask for a bank?"""
        return True

    @property
    def weight_of_batch(self) -> float:
        """What `batch_weight` stands for in this run."""
        return float(self.from_scratch) if self.batch_weight is None else self.batch_weight

    def compare(
        self,
        outputs: jax.Array,
        examples: Examples,
        bank: MemoryBank,
        of_pairs: OfPairs,
        *,
        unseen: str,
    ) -> Compared:
        """Writes a batch into the bank and sums over its pairs; `of_pairs` as of `bank_sums`."""
        own, rows = (outputs, examples.labels, examples.mask, examples.index), examples.rows
        embeddings, labels, mask, index = rows.gather(own)
        bank, batch = update_bank(bank, index, embeddings, labels), (embeddings, labels, mask)
        if not self.weight_of_batch:
            sums = bank_sums(batch, bank, of_pairs, unseen=unseen, rows=rows)
            return Compared(batch, bank, sums, None)

        def both(whole: Any, parts: Any) -> tuple[PairSums, PairSums]:
            (batch, index), (compared, own) = whole, parts
            different = index[:, None] != own[3][None, :]
            pair_mask = batch[2][:, None] & own[2][None, :] & different
            of_batch = of_pairs(*batch[:2], *own[:2], pair_mask)
            return _sums_over_rows(batch, compared, of_pairs=of_pairs), of_batch

        # Each device takes its own rows and its own part of the batch, and all is added up at once.
        parts = _compared(bank, unseen), own
        return Compared(batch, bank, *rows.sum_over(both)((batch, index), parts))


def bank_sums(
    batch: Arrays,
    bank: MemoryBank,
    of_pairs: OfPairs,
    *,
    unseen: str = "ignored",
    rows: Rows | None = None,
) -> PairSums:
    """The sums over the pairs of a batch (embeddings, labels, mask) and the bank's rows.

    `of_pairs` has the arguments of `pair_sums`; all others are those of `bank_loss`.
    """
    sums = functools.partial(_sums_over_rows, of_pairs=of_pairs)
    return (rows or WholeRows()).sum_over(sums)(batch, _compared(bank, unseen))


def _compared(bank: MemoryBank, unseen: str) -> Arrays:
    """The bank's embeddings, labels, and which rows count."""
    used = bank.seen if unseen == "ignored" else jnp.ones_like(bank.seen)
    if bank.num_images < len(used):
        used &= jnp.arange(len(used)) < bank.num_images
    return jax.lax.stop_gradient(bank.embeddings), bank.labels, used


def _sums_over_rows(batch: Arrays, bank: Arrays, *, of_pairs: OfPairs) -> PairSums:
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
