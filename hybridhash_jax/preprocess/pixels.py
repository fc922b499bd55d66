"""Image preprocessing on the device: PIL-exact resizing, augmentation, normalisation."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from input_pipeline.images.pil_filter import PRECISION_BITS, bilinear_taps, height_first
from input_pipeline.options import Option

# Per channel, RGB, of ImageNet in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
OPTIONS = (Option("crop_padding", "black pixels around an image before it is cropped", at_least=0),)


def normalize(
    images: jax.Array,
    dtype: DTypeLike = jnp.float32,
    *,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> jax.Array:
    """Computes (x / 255 - mean) / std per channel of RGB [B, H, W, 3], in float32, then casts.

    The images are uint8 or floats in 0..255; another shape is a ValueError.
    """
    _check_images(images, "normalize")
    if images.shape[-1] != 3:
        raise ValueError(
            f"normalize needs RGB images [B, H, W, 3]; got shape {images.shape}. Repeat a single "
            "channel three times, and put channels last."
        )
    shape = (1, 1, 1, 3)
    means = np.asarray(mean, np.float32).reshape(shape)
    stds = np.asarray(std, np.float32).reshape(shape)
    return ((images.astype(jnp.float32) / 255 - means) / stds).astype(dtype)


def complete(images: jax.Array, size: int) -> jax.Array:
    """Grey images [B, h, w, 1] as RGB; 28x28 images with a black border of 2 if `size` is 32.

    That is how LeNet-5 sees MNIST (LeCun et al., 1998): no pixel is interpolated. Images
    [B, h, w, 3] of any other size stay as they are; another shape is a ValueError.
    """
    _check_images(images, "complete")
    if images.shape[-1] == 1:
        images = jnp.repeat(images, 3, axis=-1)
    if size == 32 and images.shape[1:3] == (28, 28):
        images = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return images


def resize(images: jax.Array, size: int | tuple[int, int]) -> jax.Array:
    """Resizes uint8 [B, h, w, C] bilinearly, to the same bytes as Pillow 13's `resize(..., BILINEAR)`.

    PIL's filter: a triangle of half-width max(1, in/out) around each output pixel's centre (so
    that downscaling averages), in fixed point with 22 bits, one axis after the other, rounded
    to 8 bits after each. An axis that keeps its length is not filtered.

    `size` is (H, W), or one number for both: uint8 [B, h, w, C] -> uint8 [B, H, W, C]. Other
    images, or a length below 1, are a ValueError.
    """
    _check_images(images, "resize", np.uint8)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width, *images.shape[1:3]) < 1:
        raise ValueError(
            f"resize from {images.shape[1:3]} to {(height, width)}: every length must be at "
            "least 1."
        )
    if height_first(images.shape[1], images.shape[2], height, width):
        return _resize_axis(_resize_axis(images, height, axis=1), width, axis=2)
    return _resize_axis(_resize_axis(images, width, axis=2), height, axis=1)


def augment(
    images: jax.Array, key: jax.Array, *, horizontal_flip: bool, crop_padding: int
) -> jax.Array:
    """Crops and flips each image of [B, H, W, C] at random, the same whatever way it is sharded.

    The image at position i uses `fold_in(key, i)`: it is padded with `crop_padding` black
    pixels on every side, cut back to H x W at one of (2 crop_padding + 1)^2 equally likely
    places, then mirrored with probability 1/2. Black is 0, so augment before `normalize`.

    `images` [B, H, W, C], the global batch, keep their shape and dtype. Another shape, a negative
    `crop_padding`, or one that leaves crops without a pixel of the image is a ValueError.
    """
    _check_images(images, "augment")
    if crop_padding < 0:
        raise ValueError(f"crop_padding must be 0 or more; got {crop_padding}. 0 does not crop.")
    if crop_padding >= (side := min(images.shape[1:3])):
        raise ValueError(
            f"crop_padding={crop_padding} would leave crops with nothing of an image, whose shorter "
            f"side is {side} pixels; give less"
        )
    if not horizontal_flip and not crop_padding:
        return images
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))
    crop_keys, flip_keys = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    if crop_padding:
        crop = functools.partial(_random_crop, padding=crop_padding)
        images = jax.vmap(crop)(images, crop_keys)
    if horizontal_flip:
        flip = jax.vmap(lambda key: jax.random.bernoulli(key, jnp.float32(0.5)))(flip_keys)[
            :, None, None, None
        ]
        images = jnp.where(flip, images[:, :, ::-1], images)
    return images


def _random_crop(image: jax.Array, key: jax.Array, padding: int) -> jax.Array:
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.int32(0)), image.shape)


def _resize_axis(images: jax.Array, length: int, axis: int) -> jax.Array:
    if images.shape[axis] == length:
        return images
    first, weight = bilinear_taps(images.shape[axis], length)
    # Taps past the edge weigh nothing, but are gathered too.
    index = np.minimum(first[None] + np.arange(len(weight))[:, None], images.shape[axis] - 1)
    broadcast = [1] * images.ndim
    broadcast[axis] = length
    # One gather a tap keeps the int32 intermediates at the size of the result.
    total = 1 << (PRECISION_BITS - 1)
    for tap_index, tap_weight in zip(index, weight, strict=True):
        pixels = jnp.take(images, tap_index, axis=axis, mode="clip").astype(jnp.int32)
        total = total + pixels * tap_weight.reshape(broadcast)
    return jnp.clip(total >> PRECISION_BITS, 0, 255).astype(jnp.uint8)


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
