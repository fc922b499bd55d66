"""How the same weights lie in memory here and elsewhere: transpositions, both ways.

Arrays whose number of axes makes a change impossible are returned as they are; their shape then
tells that they do not fit.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]


class Layout(NamedTuple):
    """From PyTorch's axes to ours, and back."""

    to_ours: Change
    to_torch: Change


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _from_linear(array: np.ndarray) -> np.ndarray:
    if array.ndim == 4 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    return array.T if array.ndim == 2 else array


def _from_conv(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _from_depthwise(array: np.ndarray) -> np.ndarray:
    return array[:, 0].transpose(1, 2, 0) if array.ndim == 4 and array.shape[1] == 1 else array


KEEP = Layout(_same, _same)
LINEAR = Layout(_from_linear, lambda kernel: kernel.T)  # [out, in]
POINTWISE = Layout(_from_linear, lambda kernel: kernel.T[:, :, None, None])  # [out, in, 1, 1]
DEPTHWISE = Layout(
    _from_depthwise, lambda kernel: kernel.transpose(2, 0, 1)[:, None]
)  # [C, 1, k, k]
CONV = Layout(_from_conv, lambda kernel: kernel.transpose(3, 2, 0, 1))  # OIHW


def heads_slowest(kernel: np.ndarray, heads: int) -> np.ndarray:
    """Rows of an attention's projection from c * heads + h (PyTorch NesT) to h * head_dim + c."""
    channels, outputs = kernel.shape
    split = kernel.reshape(channels // heads, heads, outputs)
    return split.transpose(1, 0, 2).reshape(channels, outputs)


def heads_fastest(kernel: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `heads_slowest`."""
    channels, outputs = kernel.shape
    split = kernel.reshape(heads, channels // heads, outputs)
    return split.transpose(1, 0, 2).reshape(channels, outputs)
