"""Cuts a crop out of a resized image without making the rest of it.

That halves the work. Pillow's own `resize(box=...)` cannot do it exactly (its box is rounded to
float32, which moves the filter); NumPy would make an array a tap and hold the GIL.
"""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from input_pipeline.images.pil_filter import bilinear_taps, height_first

_ROOM = 16  # crops that a resized image may hold to be made whole


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
    from input_pipeline.images.resample_loops import filter_columns, filter_rows

    x0, x1, first_x, weight_x = _window(w, crop.width, crop.left, crop.size, crop.flip)
    y0, y1, first_y, weight_y = _window(h, crop.height, crop.top, crop.size, False)
    pixels, flat_out = image.reshape(h, -1), out.reshape(crop.size, -1)
    if height_first(h, w, crop.height, crop.width):
        between = np.empty((crop.size, 3 * (x1 - x0)), np.uint8)
        filter_rows(pixels, 3 * x0, first_y, weight_y, between)
        filter_columns(between, first_x - x0, weight_x, flat_out)
    else:
        between = np.empty((y1 - y0, 3 * crop.size), np.uint8)
        filter_columns(pixels[y0:y1], first_x, weight_x, between)
        filter_rows(between, 0, first_y - y0, weight_y, flat_out)


def resample_few(image: np.ndarray, crop: Crop, out: np.ndarray) -> None:
    """As `resample`, to the same bytes; slower an image, but nothing compiled need be loaded."""
    if crop.flip or crop.width * crop.height > _ROOM * crop.size**2:
        resample(image, crop, out)  # a long strip would make a whole that does not fit
        return
    resized = Image.fromarray(image).resize((crop.width, crop.height), Image.Resampling.BILINEAR)
    box = (crop.left, crop.top, crop.left + crop.size, crop.top + crop.size)
    out[...] = np.asarray(resized.crop(box))


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
