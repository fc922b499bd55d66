"""Augmentation of whole batches on the device: RandAugment's operations and random erasing.

RandAugment (Cubuk et al., 2020) draws two of its operations for each image. Here all operations
are computed for whole batches, and every image keeps the result of its own: colours one after the
other, shapes (rotation, shear, translation) as one affine matrix, by which pixels are then looked
up once. Of the paper's operations equalize is left out, which needs a histogram an image.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from input_pipeline.options import Option

OPERATIONS = (
    "brightness",
    "contrast",
    "saturation",
    "autocontrast",
    "posterize",
    "solarize",
    "sharpness",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
MAX_MAGNITUDE = 10.0
OPTIONS = (
    Option("augment_magnitude", "strength; 0 is off", at_least=0, at_most=MAX_MAGNITUDE),
    Option("random_erasing", "chance of an image losing a rectangle", at_least=0, at_most=1),
)
_DRAWS = 2
_APPLIED = 0.5  # chance of each draw, as timm's recipes have it
_SPREAD = 0.5  # standard deviation of the magnitude from image to image, as there
_FILL = (124.0, 116.0, 104.0)  # ImageNet's mean colour, where a shape leaves nothing
_LUMA = (0.299, 0.587, 0.114)


def rand_augment(images: jax.Array, key: jax.Array, magnitude: float) -> jax.Array:
    """Applies up to two random operations to each image: float32 [B, H, W, 3] in 0..255.

    All is drawn from `key` for the whole batch, so it is the same on any number of devices. Images
    [B, H, W, 3], uint8 or floats in 0..255, become float32 in 0..255. `magnitude` is the strength
    from 0 (off) to 10 (30 degrees, 0.45 of the side, brightness times 0.1 or 1.9, 4 of 8 bits).
    """
    OPTIONS[0].check(magnitude)
    height, width = images.shape[1:3]
    images = images.astype(jnp.float32)
    if not magnitude:
        return images
    operation, strength = _draw(key, len(images), magnitude)
    matrix = jnp.broadcast_to(jnp.eye(3), (len(images), 3, 3))
    for i in range(_DRAWS):
        images = change_colours(images, operation[i], strength[i])
        change = shape_matrix(operation[i], strength[i], (height, width))
        matrix = jnp.matmul(matrix, change, precision="highest")
    return jnp.clip(transform(images, matrix), 0, 255)


def random_erasing(images: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    """Replaces a random rectangle by noise in a share of the images (Zhong et al., AAAI 2020).

    The rectangle covers 2 % to 33 % of the area, its sides' ratio is 0.3 to 3.3 (both before it
    is made to fit in) and it lies inside the image. All is drawn from `key` for the whole batch.
    Images, float [B, H, W, C], are normalised: the noise has mean 0 and variance 1.
    """
    if not probability:
        return images

    box_key, noise_key = jax.random.split(key)
    applied, *drawn = jax.random.uniform(box_key, (5, len(images)), jnp.float32)
    inside = _rectangles(drawn, images.shape[1:3])
    inside &= (applied < probability)[:, None, None]
    noise = jax.random.normal(noise_key, images.shape, images.dtype)
    return jnp.where(inside[..., None], noise, images)


def change_colours(images: jax.Array, operation: jax.Array, strength: jax.Array) -> jax.Array:
    """Applies each image's operation, where it is one of colour, to float32 [B, H, W, 3] in 0..255.

    `operation`: int [B], places in `OPERATIONS`, -1 for none; `strength`: [B], from -1 to 1.
    """
    strength = strength.reshape(-1, 1, 1, 1)
    factor, size = 1 + 0.9 * strength, jnp.abs(strength)
    weights = jnp.asarray(_LUMA).reshape(1, 1, 1, 3)
    grey = jnp.sum(images * weights, axis=-1, keepdims=True)
    low = images.min(axis=(1, 2), keepdims=True)
    span = images.max(axis=(1, 2), keepdims=True) - low
    step = jnp.exp2(jnp.round(4 * size))
    changed = {
        "brightness": images * factor,
        "contrast": _blend(grey.mean(axis=(1, 2), keepdims=True), images, factor),
        "saturation": _blend(grey, images, factor),
        "autocontrast": jnp.where(span > 0, (images - low) * 255 / jnp.maximum(span, 1), images),
        "posterize": jnp.floor(images / step) * step,
        "solarize": jnp.where(images >= 256 * (1 - size), 255 - images, images),
        "sharpness": _blend(_smooth(images), images, factor),
    }
    result = images
    for name, values in changed.items():
        chosen = (operation == OPERATIONS.index(name)).reshape(-1, 1, 1, 1)
        result = jnp.where(chosen, jnp.clip(values, 0, 255), result)
    return result


def shape_matrix(operation: jax.Array, strength: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Where each image's pixels come from, float32 [B, 3, 3]; the identity for colours.

    A matrix takes (x, y, 1) of the result, in pixels from the centre, to those of the image.
    """
    height, width = size

    def amount(name: str, largest: float) -> jax.Array:
        return jnp.where(operation == OPERATIONS.index(name), strength * largest, 0.0)

    angle = amount("rotate", math.radians(30))
    cos, sin, zero, one = jnp.cos(angle), jnp.sin(angle), 0 * angle, 0 * angle + 1
    rows = [
        [cos, sin + amount("shear_x", 0.3), amount("translate_x", 0.45 * width)],
        [-sin + amount("shear_y", 0.3), cos, amount("translate_y", 0.45 * height)],
        [zero, zero, one],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def transform(images: jax.Array, matrix: jax.Array) -> jax.Array:
    """Looks every pixel of the result up in the image, bilinearly; grey where there is none.

    `images` are float32 [B, H, W, 3], `matrix` is of `shape_matrix`.
    """
    height, width = images.shape[1:3]
    y, x = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij"
    )
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    points = jnp.stack([x - centre_x, y - centre_y, jnp.ones_like(x)]).reshape(3, -1)
    points = points.astype(jnp.float32)
    fill = jnp.asarray(_FILL)

    def look_up(image: jax.Array, matrix: jax.Array) -> jax.Array:
        from_x, from_y, _ = jnp.matmul(matrix, points, precision="highest")
        return _bilinear(image, from_x + centre_x, from_y + centre_y, fill)

    return jax.vmap(look_up)(images, matrix).reshape(images.shape)


def _draw(key: jax.Array, count: int, magnitude: float) -> tuple[jax.Array, jax.Array]:
    """(operations int [2, count], -1 for none; strengths [2, count] from -1 to 1)."""
    choice_key, size_key = jax.random.split(key)
    applied, choice, sign = jax.random.uniform(choice_key, (3, _DRAWS, count), jnp.float32)
    operation = jnp.floor(choice * len(OPERATIONS)).astype(jnp.int32)
    size = magnitude + _SPREAD * jax.random.normal(size_key, (_DRAWS, count), jnp.float32)
    strength = jnp.where(sign < 0.5, -1, 1) * jnp.clip(size / MAX_MAGNITUDE, 0, 1)
    return jnp.where(applied < _APPLIED, operation, -1), strength


def _blend(first: jax.Array, second: jax.Array, factor: jax.Array) -> jax.Array:
    return first + (second - first) * factor


def _smooth(images: jax.Array) -> jax.Array:
    """Each pixel's mean with its neighbours, itself five times; the border stays."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    around = sum(
        padded[:, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    )
    smooth = (around + 4 * images) / 13
    y, x = jnp.arange(height), jnp.arange(width)
    inner = ((y > 0) & (y < height - 1))[:, None] & ((x > 0) & (x < width - 1))[None, :]
    return jnp.where(inner[None, :, :, None], smooth, images)


def _bilinear(image: jax.Array, x: jax.Array, y: jax.Array, fill: jax.Array) -> jax.Array:
    """[H, W, 3] at points [P] -> [P, 3]; pixels outside count as `fill`."""
    height, width = image.shape[:2]
    left, top = jnp.floor(x), jnp.floor(y)
    total = jnp.zeros((x.shape[0], 3))
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            weight = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            pixels = image.reshape(-1, 3)[place.astype(jnp.int32)]
            pixels = jnp.where(inside[:, None], pixels, fill[None, :])
            total = total + pixels * weight[:, None]
    return total


def _rectangles(drawn: Sequence[jax.Array], size: Sequence[int]) -> jax.Array:
    """True inside rectangles made from four values [B] from 0 to 1, bool [B, H, W]."""
    share, ratio, *places = drawn
    area = (0.02 + (1 / 3 - 0.02) * share) * math.prod(size)
    root = jnp.exp((ratio - 0.5) * math.log(1 / 0.3))  # of the sides' ratio, 0.3 to 1 / 0.3
    inside = []
    lengths = (jnp.sqrt(area) * root, jnp.sqrt(area) / root)
    for length, side, place in zip(lengths, size, places, strict=True):
        length = jnp.clip(jnp.round(length), 1, side)
        first = jnp.floor(place * (side - length + 1))[:, None]
        pixel = jnp.arange(side, dtype=jnp.float32)[None, :]
        inside.append((pixel >= first) & (pixel < first + length[:, None]))
    return inside[0][:, :, None] & inside[1][:, None, :]
