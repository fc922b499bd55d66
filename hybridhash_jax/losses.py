"""Pairwise losses on embeddings: pure functions of (embeddings, labels, mask, bank).

Weighted maximum likelihood over pairs (HashNet, Cao et al., ICCV 2017). For a pair with inner
product theta = alpha * u . v and similarity s in {0, 1}, l = softplus(theta) - s * theta; the loss
is the mean of l over similar pairs plus the mean over dissimilar pairs.
"""

import jax
import jax.numpy as jnp

PAIRS = ("bank", "batch")
UNSEEN = ("ignored", "negative")


def similarity(labels: jax.Array, other_labels: jax.Array) -> jax.Array:
    """[B, classes] and [M, classes] multi-hot -> bool [B, M]: is a label shared?"""
    shared = labels.astype(jnp.float32) @ other_labels.astype(jnp.float32).T
    return shared > 0.5


def pairwise_likelihood_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    other_embeddings: jax.Array,
    other_labels: jax.Array,
    pair_mask: jax.Array,
    *,
    alpha: float = 0.5,
) -> jax.Array:
    """Mean loss over the similar pairs plus mean loss over the dissimilar ones.

    Args:
      embeddings: [B, K], labels: [B, classes] multi-hot.
      other_embeddings: [M, K], other_labels: [M, classes].
      pair_mask: bool [B, M]; False leaves a pair out.
      alpha: scale of the inner products.

    Returns:
      A scalar, float32 or the embeddings' type where that is wider. Without a similar pair (or
      without a dissimilar one) only the other term remains; without any pair it is 0, never NaN.
    """
    dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
    theta = alpha * jnp.matmul(
        embeddings.astype(dtype), other_embeddings.astype(dtype).T, precision="highest"
    )
    similar = similarity(labels, other_labels)
    positive = _masked_mean(jax.nn.softplus(-theta), similar & pair_mask, pair_mask)
    negative = _masked_mean(jax.nn.softplus(theta), ~similar & pair_mask, pair_mask)
    return positive + negative


def _masked_mean(values: jax.Array, mask: jax.Array, pair_mask: jax.Array) -> jax.Array:
    """Mean where `mask`, a part of `pair_mask`; 0 where nothing is.

    Written as the authors compute it, sum / |S| times the weight |S| / |S1|, with the weight in
    float32 whatever the loss is in: a float64 loss then equals theirs to the last digits.
    """
    pairs = jnp.maximum(jnp.sum(pair_mask, dtype=jnp.float32), 1)
    weight = pairs / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1)
    return jnp.sum(jnp.where(mask, values, 0)) / pairs * weight


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
) -> jax.Array:
    """Loss of a batch against the memory bank, into which the batch was already written.

    Args:
      embeddings, labels, mask: the batch, [B, K], [B, classes] and bool [B] (False = padding).
      bank_embeddings, bank_labels, bank_seen: [n, K], [n, classes], bool [n].
      alpha: scale of the inner products.
      unseen: "ignored" leaves rows never written out; "negative" counts them, zeros, as
        dissimilar (the authors' code): constant log 2 each, and no gradient.
      num_images: how many rows of the bank are of images, the first ones; None is all.
    """
    if unseen not in UNSEEN:
        raise ValueError(f"unseen={unseen!r} is unknown; accepted: {', '.join(UNSEEN)}")
    rows = bank_seen if unseen == "ignored" else jnp.ones_like(bank_seen)
    if num_images is not None and num_images < len(rows):
        rows &= jnp.arange(len(rows)) < num_images
    return pairwise_likelihood_loss(
        embeddings,
        labels,
        jax.lax.stop_gradient(bank_embeddings),
        bank_labels,
        mask[:, None] & rows[None, :],
        alpha=alpha,
    )


def batch_loss(
    embeddings: jax.Array, labels: jax.Array, mask: jax.Array, *, alpha: float = 0.5
) -> jax.Array:
    """Loss over the pairs inside a batch, gradient through both sides; no image with itself."""
    different = ~jnp.eye(embeddings.shape[0], dtype=bool)
    pair_mask = mask[:, None] & mask[None, :] & different
    return pairwise_likelihood_loss(embeddings, labels, embeddings, labels, pair_mask, alpha=alpha)
