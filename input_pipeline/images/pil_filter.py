"""Pillow's bilinear resampling filter as tables of fixed-point weights."""

import math

import numpy as np

# Pillow's: 32 bits less 8 for the pixel and 2 of headroom, so that a sum of taps fits an int32.
PRECISION_BITS = 32 - 8 - 2


def bilinear_taps(
    length_in: int, length_out: int, start: int = 0, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(first, weight): the pixels that each output pixel reads along one axis, and their weights.

    Of `size` output pixels from `start` on, by default all. `first` is int32 [size]; `weight` int32
    [taps, size], for pixels first, first + 1, ...; 2**22 is 1, and taps past the image's edge weigh
    0. The filter is a triangle of half-width max(1, in/out) around the output pixel's centre.
    Follows `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c, in float64 and
    the same order of operations.
    """
    scale = length_in / length_out
    support = max(scale, 1.0)
    taps = math.ceil(support) * 2 + 1
    end_out = length_out if size is None else start + size
    center = (np.arange(start, end_out) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), length_in)
    tap = np.arange(taps)[:, None]
    inverse = 1.0 / support
    weight = np.maximum(1.0 - np.abs((tap + first[None] - center[None] + 0.5) * inverse), 0.0)
    weight = np.where(tap < (end - first)[None], weight, 0.0)
    # cumsum adds one tap after the other, as C does; sum would add in pairs.
    weight = weight / np.cumsum(weight, axis=0)[-1:]
    fixed = (0.5 + weight * (1 << PRECISION_BITS)).astype(np.int32)
    # Only from the end: `first` says which pixel the first tap is for.
    used = int(np.flatnonzero(fixed.any(axis=1))[-1]) + 1
    return first.astype(np.int32), fixed[:used]


def height_first(rows: int, columns: int, new_rows: int, new_columns: int) -> bool:
    """Does Pillow 13 filter the height before the width? The order shows in the last bit.

    Up to Pillow 12 it was always the width first; 13 starts with the height where that loses
    over twice as many pixels.
    """
    return rows - new_rows > max(0, 2 * (columns - new_columns))
