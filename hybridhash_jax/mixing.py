"""Mixup and CutMix: training on mixtures of two images and of their targets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixing(NamedTuple):
    """How images are mixed.

    Attributes:
      mixup, cutmix: parameter a of Beta(a, a), from which an image's share is drawn; 0 is off.
        With both on, each image takes one or the other with equal chance.
      probability: that an image is mixed at all.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0


def mix(
    images: jax.Array, targets: jax.Array, mask: jax.Array, key: jax.Array, mixing: Mixing
) -> tuple[jax.Array, jax.Array]:
    """Mixes every image of a batch with another one of it.

    Mixup (Zhang et al., ICLR 2018) is a weighted mean of both images. CutMix (Yun et al., ICCV
    2019) pastes a box of the other image, of the share 1 - lambda of the area, around a random
    centre and cut off at the border; the targets' weights are those of the pixels that remain.

    The image at position i draws from `fold_in(key, i)` and is mixed with the image at the place
    that a permutation drawn from `key` gives; so a batch is mixed the same way on any number of
    devices. An image whose partner is padding stays as it is.

    Args:
      images: float [B, H, W, C], the global batch.
      targets: float32 [B, classes].
      mask: bool [B]; False is padding.
      key: JAX PRNG key; a new one each step.
      mixing: what to do.

    Returns:
      Images and targets of the same shapes and types.
    """
    if not (mixing.mixup or mixing.cutmix) or not mixing.probability:
        return images, targets
    count, height, width, _ = images.shape
    order_key, image_key = jax.random.split(key)
    partner = jax.random.permutation(order_key, count)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(image_key, jnp.arange(count))
    weights = jax.vmap(lambda key: _own_weights(key, height, width, mixing))(keys)
    weights = jnp.where(mask[partner][:, None, None], weights, 1.0)
    # With mixup all pixels of an image weigh the same, with CutMix each 0 or 1.
    share = weights.mean(axis=(1, 2))[:, None]
    weights = weights[..., None].astype(images.dtype)
    mixed = images * weights + images[partner] * (1 - weights)
    return mixed, targets * share + targets[partner] * (1 - share)


def _own_weights(key: jax.Array, height: int, width: int, mixing: Mixing) -> jax.Array:
    """What every pixel of the own image weighs, float32 [H, W]."""
    apply_key, choice_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 5)
    whole = jnp.ones((height, width))
    blended = boxed = whole
    if mixing.mixup:
        blended = whole * jax.random.beta(mixup_key, mixing.mixup, mixing.mixup)
    if mixing.cutmix:
        share = jax.random.beta(cutmix_key, mixing.cutmix, mixing.cutmix)
        boxed = jnp.where(_box(box_key, 1 - share, height, width), 0.0, 1.0)
    if mixing.mixup and mixing.cutmix:
        chosen = jnp.where(jax.random.bernoulli(choice_key), boxed, blended)
    else:
        chosen = boxed if mixing.cutmix else blended
    return jnp.where(jax.random.bernoulli(apply_key, mixing.probability), chosen, whole)


def _box(key: jax.Array, share: jax.Array, height: int, width: int) -> jax.Array:
    """True inside a box of `share` of the area, before it is cut off at the border; [H, W]."""
    centres = jax.random.uniform(key, (2,)) * jnp.array([height, width])
    inside = []
    for centre, length in zip(centres, (height, width)):
        half = jnp.sqrt(share) * length / 2
        first = jnp.maximum(jnp.round(centre - half), 0)
        last = jnp.minimum(jnp.round(centre + half), length)
        place = jnp.arange(length)
        inside.append((place >= first) & (place < last))
    return inside[0][:, None] & inside[1][None, :]
