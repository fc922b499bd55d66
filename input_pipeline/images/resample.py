"""Cuts a crop out of a resized image without making the rest of it, compiled by Numba.

That halves the work. Pillow's own `resize(box=...)` cannot do it exactly (its box is rounded to
float32, which moves the filter); NumPy would make an array a tap and hold the GIL.
"""

import functools
from dataclasses import dataclass

import numpy as np

from input_pipeline.compiled import compiled
from input_pipeline.images.pil_filter import PRECISION_BITS, bilinear_taps, height_first

_HALF = np.int32(1 << (PRECISION_BITS - 1))
_SHIFT = np.int32(PRECISION_BITS)
_0, _1, _2, _3 = (np.uint64(i) for i in range(4))


@dataclass(frozen=True)
class Crop:
    """The square at (left, top) of an image resized to (width, height), mirrored with `flip`."""

    width: int
    height: int
    left: int
    top: int
    size: int
    flip: bool = False


def resample(image: np.ndarray, crop: Crop, out: np.ndarray) -> None:
    """Writes the crop of the image, resized as Pillow 13 would, to the last grey level.

    `image` is uint8 [h, w, 3], contiguous; `out` uint8 [size, size, 3].
    """
    h, w, _ = image.shape
    if (h, w) == (crop.height, crop.width):
        part = image[crop.top : crop.top + crop.size, crop.left : crop.left + crop.size]
        out[...] = part[:, ::-1] if crop.flip else part
        return
    x0, x1, first_x, weight_x = _window(w, crop.width, crop.left, crop.size, crop.flip)
    y0, y1, first_y, weight_y = _window(h, crop.height, crop.top, crop.size, False)
    pixels, flat_out = image.reshape(h, -1), out.reshape(crop.size, -1)
    if height_first(h, w, crop.height, crop.width):
        between = np.empty((crop.size, 3 * (x1 - x0)), np.uint8)
        _filter_rows(pixels, 3 * x0, first_y, weight_y, between)
        _filter_columns(between, first_x - x0, weight_x, flat_out)
    else:
        between = np.empty((y1 - y0, 3 * crop.size), np.uint8)
        _filter_columns(pixels[y0:y1], first_x, weight_x, between)
        _filter_rows(between, 0, first_y - y0, weight_y, flat_out)


_Window = tuple[int, int, np.ndarray, np.ndarray]


# Photographs of a set share few sizes; a window is a few kilobytes.
@functools.lru_cache(maxsize=4096)
def _window(length_in: int, length_out: int, start: int, size: int, flip: bool) -> _Window:
    """The range of input pixels that `size` output pixels from `start` on read along one axis.

    And int64 [size] first pixel of each, int32 [size, taps] weights. All lie inside the image.
    """
    first, weight = bilinear_taps(length_in, length_out, start, size)
    taps, first = len(weight), first.astype(np.int64)
    # A window over the far edge starts earlier instead, its weights moved along.
    shift = np.maximum(first + taps - length_in, 0)
    moved = np.zeros((size, taps), np.int32)
    tap, pixel = np.nonzero(weight)
    moved[pixel, tap + shift[pixel]] = weight[tap, pixel]
    first = first - shift
    begin, end = int(first[0]), int(first[-1]) + taps
    order = slice(None, None, -1 if flip else 1)
    return begin, end, np.ascontiguousarray(first[order]), np.ascontiguousarray(moved[order])


@compiled
def _filter_columns(
    image: np.ndarray, first: np.ndarray, weight: np.ndarray, out: np.ndarray
) -> None:
    """out[y, 3 x + c] = sum over k of weight[x, k] * image[y, 3 (first[x] + k) + c], rounded."""
    for y in range(out.shape[0]):
        row, result = image[y], out[y]
        j = _0
        for x in range(first.shape[0]):
            i = _3 * np.uint64(first[x])
            red, green, blue = _HALF, _HALF, _HALF
            for tap in range(weight.shape[1]):
                factor = weight[x, tap]
                red += factor * np.int32(row[i])
                green += factor * np.int32(row[i + _1])
                blue += factor * np.int32(row[i + _2])
                i += _3
            result[j] = red >> _SHIFT
            result[j + _1] = green >> _SHIFT
            result[j + _2] = blue >> _SHIFT
            j += _3


@compiled
def _filter_rows(
    image: np.ndarray, left: int, first: np.ndarray, weight: np.ndarray, out: np.ndarray
) -> None:
    """out[y, i] = sum over k of weight[y, k] * image[first[y] + k, left + i], rounded."""
    total = np.empty(out.shape[1], np.int32)
    for y in range(out.shape[0]):
        total[:] = _HALF
        for tap in range(weight.shape[1]):
            factor = weight[y, tap]
            row = image[first[y] + tap, left : left + total.shape[0]]
            for i in range(total.shape[0]):
                total[i] += factor * np.int32(row[i])
        for i in range(total.shape[0]):
            out[y, i] = total[i] >> _SHIFT
