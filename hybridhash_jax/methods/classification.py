"""Classification: targets, their loss and how often the right class is among the first."""

import jax
import jax.numpy as jnp


def smooth_labels(labels: jax.Array, smoothing: float) -> jax.Array:
    """Takes `smoothing` of the weight off the label and spreads it evenly over all classes.

    Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016).

    Args:
      labels: [B, classes], one-hot.
      smoothing: from 0 to below 1.

    Returns:
      float32 [B, classes]; rows of a one-hot label still sum to 1.
    """
    labels = labels.astype(jnp.float32)
    return labels * (1 - smoothing) + smoothing / labels.shape[1]


def soft_cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of -sum(targets * log softmax(logits)) over the images that `mask` keeps.

    Args:
      logits: [B, classes], of any float type; computed in float32.
      targets: [B, classes], probabilities.
      mask: bool [B]; False leaves an image out.

    Returns:
      A float32 scalar; 0 where no image is kept.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    losses = -jnp.sum(targets.astype(jnp.float32) * log_probabilities, axis=1)
    return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(jnp.sum(mask), 1)


def is_among_top(logits: jax.Array, class_ids: jax.Array, k: int) -> jax.Array:
    """Whether the right class is among the k largest logits, bool [B].

    Of equal logits the class of the lower number comes first, so a network that cannot tell
    classes apart gains nothing by it. A NaN is never among the first.

    Args:
      logits: [B, classes].
      class_ids: int [B].
      k: 1 or more; with k of at least the number of classes every finite row is right.
    """
    right = jnp.take_along_axis(logits, class_ids[:, None], axis=1)
    later = jnp.arange(logits.shape[1])[None, :] > class_ids[:, None]
    behind = (logits < right) | ((logits == right) & later)
    place = logits.shape[1] - 1 - jnp.sum(behind, axis=1)
    return (place < k) & ~jnp.isnan(logits).any(axis=1)
