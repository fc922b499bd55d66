"""The loops of `resample`, compiled by Numba, which takes a tenth of a second and more to import."""

import numpy as np

from input_pipeline.compiled import compiled
from input_pipeline.images.pil_filter import PRECISION_BITS

_HALF = np.int32(1 << (PRECISION_BITS - 1))
_SHIFT = np.int32(PRECISION_BITS)
_0, _1, _2, _3 = (np.uint64(i) for i in range(4))


@compiled
def filter_columns(
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
def filter_rows(
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
