"""Image preprocessing on the device: PIL-exact resizing, augmentation, normalisation."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

# Per channel, RGB, of ImageNet in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# PIL's: 32 bits less 8 for the pixel and 2 of headroom, so that a sum of taps fits an int32.
_PRECISION_BITS = 32 - 8 - 2


def normalize(images: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Computes (x / 255 - mean) / std per channel, in float32, then casts.

    Args:
        images: [B, H, W, 3], uint8 or floats in 0..255, RGB.
        dtype: of the result, for example bfloat16.

    Returns:
        `dtype` [B, H, W, 3].

    Raises:
        ValueError: `images` has not four axes, or not three channels.
    """
    _check_images(images, "normalize")
    if images.shape[-1] != 3:
        raise ValueError(
            f"normalize needs RGB images [B, H, W, 3]; got shape {images.shape}. Repeat a single "
            "channel three times, and put channels last."
        )
    shape = (1, 1, 1, 3)
    mean = np.asarray(MEAN, np.float32).reshape(shape)
    std = np.asarray(STD, np.float32).reshape(shape)
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)


def resize(images: jax.Array, size: int | tuple[int, int]) -> jax.Array:
    """Resizes bilinearly, to the same bytes as Pillow 13's `resize((W, H), BILINEAR)`.

    PIL's filter: a triangle of half-width max(1, in/out) around each output pixel's centre (so
    that downscaling averages), in fixed point with 22 bits, one axis after the other, rounded
    to 8 bits after each. An axis that keeps its length is not filtered.

    Args:
        images: uint8 [B, h, w, C], h and w at least 1.
        size: (H, W), or one number for both; the aspect ratio is not kept.

    Returns:
        uint8 [B, H, W, C].

    Raises:
        ValueError: `images` is not uint8 with four axes, or a length is below 1.
    """
    _check_images(images, "resize", np.uint8)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width, *images.shape[1:3]) < 1:
        raise ValueError(
            f"resize from {images.shape[1:3]} to {(height, width)}: every length must be at "
            "least 1."
        )
    # The order shows in the last bit. Up to Pillow 12 it was always horizontal first; Pillow 13
    # starts with the height where that loses over twice as many pixels as the width.
    rows_lost, columns_lost = images.shape[1] - height, images.shape[2] - width
    if rows_lost > max(0, 2 * columns_lost):
        return _resize_axis(_resize_axis(images, height, axis=1), width, axis=2)
    return _resize_axis(_resize_axis(images, width, axis=2), height, axis=1)


def augment(
    images: jax.Array, key: jax.Array, *, horizontal_flip: bool, crop_padding: int
) -> jax.Array:
    """Crops and flips each image at random, the same whatever way the batch is sharded.

    The image at position i uses `fold_in(key, i)`: it is padded with `crop_padding` black
    pixels on every side, cut back to H x W at one of (2 crop_padding + 1)^2 equally likely
    places, then mirrored with probability 1/2.

    Args:
        images: [B, H, W, C], the global batch; black is 0, so augment before `normalize`.
        key: JAX PRNG key; a new one each step.
        horizontal_flip: whether to mirror.
        crop_padding: p, 0 or more; 0 does not crop.

    Returns:
        [B, H, W, C] of the dtype of `images`; `images` itself when there is nothing to do.

    Raises:
        ValueError: `images` has not four axes, or `crop_padding` is negative.
    """
    _check_images(images, "augment")
    if crop_padding < 0:
        raise ValueError(f"crop_padding must be 0 or more; got {crop_padding}. 0 does not crop.")
    if not horizontal_flip and not crop_padding:
        return images
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))
    crop_keys, flip_keys = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    if crop_padding:
        crop = functools.partial(_random_crop, padding=crop_padding)
        images = jax.vmap(crop)(images, crop_keys)
    if horizontal_flip:
        flip = jax.vmap(jax.random.bernoulli)(flip_keys)[:, None, None, None]
        images = jnp.where(flip, images[:, :, ::-1], images)
    return images


def _random_crop(image: jax.Array, key: jax.Array, padding: int) -> jax.Array:
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _resize_axis(images: jax.Array, length: int, axis: int) -> jax.Array:
    if images.shape[axis] == length:
        return images
    index, weight = _taps(images.shape[axis], length)
    broadcast = [1] * images.ndim
    broadcast[axis] = length
    # One gather a tap keeps the int32 intermediates at the size of the result.
    total = 1 << (_PRECISION_BITS - 1)
    for tap_index, tap_weight in zip(index, weight, strict=True):
        pixels = jnp.take(images, tap_index, axis=axis, mode="clip").astype(jnp.int32)
        total = total + pixels * tap_weight.reshape(broadcast)
    return jnp.clip(total >> _PRECISION_BITS, 0, 255).astype(jnp.uint8)


def _taps(length_in: int, length_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Tabulates which pixels each output pixel reads, and PIL's fixed-point weights.

    Follows `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c, in float64
    and in the same order of operations, since one unit in the last place can move a weight.

    Returns:
        int32 index and weight, both [taps, length_out]; taps past the edge weigh 0.
    """
    scale = length_in / length_out
    support = max(scale, 1.0)
    taps = math.ceil(support) * 2 + 1
    center = (np.arange(length_out) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), length_in)
    tap = np.arange(taps)[:, None]
    inverse = 1.0 / support
    weight = np.maximum(1.0 - np.abs((tap + first[None] - center[None] + 0.5) * inverse), 0.0)
    weight = np.where(tap < (end - first)[None], weight, 0.0)
    # cumsum adds one tap after the other, as C does; sum would add in pairs.
    weight = weight / np.cumsum(weight, axis=0)[-1:]
    fixed = (0.5 + weight * (1 << _PRECISION_BITS)).astype(np.int32)
    index = np.minimum(tap + first[None], length_in - 1).astype(np.int32)
    used = fixed.any(axis=1)
    return index[used], fixed[used]


def _check_images(images: jax.Array, function: str, dtype: DTypeLike | None = None) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"{function} needs images [B, H, W, C]; got shape {images.shape}. Use images[None] "
            "for a single image."
        )
    if dtype is not None and images.dtype != dtype:
        raise ValueError(
            f"{function} needs {np.dtype(dtype)} images; got {images.dtype}. Resize before "
            "converting to floats."
        )
