"""Mixup and CutMix: training on mixtures of two images and of their targets."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixing(NamedTuple):
    """How images are mixed: parameters a of Beta(a, a), from which an image's share is drawn.

    0 is off. With both on, each image takes one or the other with equal chance. `probability` is
    that of an image being mixed at all.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0


def mix(
    images: jax.Array, targets: jax.Array, mask: jax.Array, key: jax.Array, mixing: Mixing
) -> tuple[jax.Array, jax.Array]:
    """Mixes every image [B, H, W, C] of a batch, and its targets [B, classes], with another one of it.

    Mixup (Zhang et al., ICLR 2018) is a weighted mean of both images. CutMix (Yun et al., ICCV
    2019) pastes a box of the other image, of the share 1 - lambda of the area, around a random
    centre and cut off at the border; the targets' weights are those of the pixels that remain.

    Shares, boxes and partners are drawn from `key` for the whole batch, so it is mixed the same
    way on any number of devices. An image whose partner is padding stays as it is.

    `images` are float [B, H, W, C], `targets` float32 [B, classes], and `mask` bool [B] is False
    for padding. The results have the same shapes and types.
    """
    if not (mixing.mixup or mixing.cutmix) or not mixing.probability:
        return images, targets
    order_key, weight_key = jax.random.split(key)
    partner = jax.random.permutation(order_key, len(images))
    weights = _own_weights(weight_key, images.shape[:3], mixing)
    weights = jnp.where(mask[partner][:, None, None], weights, 1.0)
    # With mixup all pixels of an image weigh the same, with CutMix each 0 or 1.
    share = weights.mean(axis=(1, 2))[:, None]
    weights = weights[..., None].astype(images.dtype)
    mixed = images * weights + images[partner] * (1 - weights)
    return mixed, targets * share + targets[partner] * (1 - share)


def _own_weights(key: jax.Array, shape: tuple[int, ...], mixing: Mixing) -> jax.Array:
    """What every pixel of each image itself weighs, float32 [B, H, W]."""
    count = shape[0]
    choice_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    applied, choice, *centre = jax.random.uniform(choice_key, (4, count), jnp.float32)
    blended = boxed = jnp.ones(shape)
    if mixing.mixup:
        share = jax.random.beta(mixup_key, mixing.mixup, mixing.mixup, (count,), jnp.float32)
        blended = jnp.broadcast_to(share[:, None, None], shape)
    if mixing.cutmix:
        share = jax.random.beta(cutmix_key, mixing.cutmix, mixing.cutmix, (count,), jnp.float32)
        boxed = jnp.where(_boxes(centre, 1 - share, shape[1:]), 0.0, 1.0)
    if mixing.mixup and mixing.cutmix:
        chosen = jnp.where((choice < 0.5)[:, None, None], boxed, blended)
    else:
        chosen = boxed if mixing.cutmix else blended
    return jnp.where((applied < mixing.probability)[:, None, None], chosen, 1.0)


def _boxes(centre: Sequence[jax.Array], share: jax.Array, size: Sequence[int]) -> jax.Array:
    """True inside boxes of `share` of the area, before they are cut off at the border; [B, H, W].

    `centre` has, for each axis, values [B] from 0 to 1.
    """
    inside = []
    for place, length in zip(centre, size, strict=True):
        middle, half = place * length, jnp.sqrt(share) * length / 2
        first, last = jnp.round(middle - half)[:, None], jnp.round(middle + half)[:, None]
        pixel = jnp.arange(length, dtype=jnp.float32)[None, :]
        inside.append((pixel >= first) & (pixel < last))
    return inside[0][:, :, None] & inside[1][:, None, :]
