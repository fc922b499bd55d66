"""Pairwise losses on embeddings: pure functions of (embeddings, labels, mask, bank).

Weighted maximum likelihood over pairs (HashNet, Cao et al., ICCV 2017). For a pair with inner
product theta = alpha * u . v and similarity s in {0, 1}, l = softplus(theta) - s * theta; the loss
is the mean of l over similar pairs plus the mean over dissimilar pairs.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

PAIRS = ("bank", "batch")
UNSEEN = ("ignored", "negative")

# Numbers of a block of the bank, its pairs with the batch among them: 16 MiB of float32.
_BLOCK = 1 << 22


def similarity(labels: jax.Array, other_labels: jax.Array) -> jax.Array:
    """[B, classes] and [M, classes] multi-hot -> bool [B, M]: is a label shared?"""
    shared = labels.astype(jnp.float32) @ other_labels.astype(jnp.float32).T
    return shared > 0.5


class PairSums(NamedTuple):
    """What the loss needs to know of pairs; sums of those of disjoint sets of pairs are those of all.

    Attributes:
      positive, negative: sums of the loss over similar and over dissimilar pairs.
      similar, dissimilar: how many there are, float32.
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
# (the batch, rows of the bank) -> sums, and what makes such a function of another.
RowSums = Callable[[Arrays, Arrays], PairSums]
OverRows = Callable[[RowSums], RowSums]


def pair_sums(
    embeddings: jax.Array,
    labels: jax.Array,
    other_embeddings: jax.Array,
    other_labels: jax.Array,
    pair_mask: jax.Array,
    *,
    alpha: float,
) -> PairSums:
    """The sums over all pairs of one and the other.

    Args:
      embeddings: [B, K], labels: [B, classes] multi-hot.
      other_embeddings: [M, K], other_labels: [M, classes].
      pair_mask: bool [B, M]; False leaves a pair out.
      alpha: scale of the inner products.

    Returns:
      Scalars, float32 or the embeddings' type where that is wider.
    """
    dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
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
    embeddings: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    bank_embeddings: jax.Array,
    bank_labels: jax.Array,
    bank_seen: jax.Array,
    *,
    alpha: float = 0.5,
    unseen: str = "ignored",
    num_images: int | None = None,
    over_rows: OverRows | None = None,
) -> jax.Array:
    """Loss of a batch against the memory bank, into which the batch was already written.

    Args:
      embeddings, labels, mask: the batch, [B, K], [B, classes] and bool [B] (False = padding).
      bank_embeddings, bank_labels, bank_seen: [n, K], [n, classes], bool [n].
      alpha: scale of the inner products.
      unseen: "ignored" leaves rows never written out; "negative" counts them, zeros, as
        dissimilar (the authors' code): constant log 2 each, and no gradient.
      num_images: how many rows of the bank are of images, the first ones; None is all.
      over_rows: makes of sums over a device's own rows those over all, see
        `layout.Layout.over_bank_rows`; None where each device has all rows.
    """
    if unseen not in UNSEEN:
        raise ValueError(f"unseen={unseen!r} is unknown; accepted: {', '.join(UNSEEN)}")
    rows = bank_seen if unseen == "ignored" else jnp.ones_like(bank_seen)
    if num_images is not None and num_images < len(rows):
        rows &= jnp.arange(len(rows)) < num_images
    bank = jax.lax.stop_gradient(bank_embeddings), bank_labels, rows
    sums: RowSums = functools.partial(_sums_over_rows, alpha=alpha)
    if over_rows is not None:
        sums = over_rows(sums)
    return sums((embeddings, labels, mask), bank).loss()


def _sums_over_rows(batch: Arrays, bank: Arrays, *, alpha: float) -> PairSums:
    """The sums over a batch and some rows of the bank, of a large bank in blocks of rows.

    A block's pairs are computed again in the backward pass, so that the memory is one block's.
    """
    embeddings, labels, mask = batch

    def of_rows(embeddings: jax.Array, others: jax.Array, classes: jax.Array, used: jax.Array):
        pair_mask = mask[:, None] & used[None, :]
        return pair_sums(embeddings, labels, others, classes, pair_mask, alpha=alpha)

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
    embeddings: jax.Array, labels: jax.Array, mask: jax.Array, *, alpha: float = 0.5
) -> jax.Array:
    """Loss over the pairs inside a batch, gradient through both sides; no image with itself."""
    different = ~jnp.eye(embeddings.shape[0], dtype=bool)
    pair_mask = mask[:, None] & mask[None, :] & different
    return pair_sums(embeddings, labels, embeddings, labels, pair_mask, alpha=alpha).loss()
