"""Learned position embeddings, brought to another number of tokens."""

import math

import jax.numpy as jnp
import numpy as np

from hybridhash_jax.models.blocks import blockify, unblockify

# The sharpness of PyTorch's bicubic interpolation, with which timm resizes NesT's embeddings.
_SHARPNESS = -0.75


def bicubic_weights(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of bicubic interpolation along one axis.

    Keys' kernel (a = -0.75), half-pixel centres, edges clamped, no antialiasing: PyTorch's
    `interpolate(mode="bicubic", align_corners=False)`.
    """
    weights = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * old / new - 0.5
        first = math.floor(centre) - 1
        for position in range(first, first + 4):
            clamped = min(max(position, 0), old - 1)
            weights[row, clamped] += _keys_kernel(abs(centre - position))
    return weights


def _keys_kernel(x: float) -> float:
    a = _SHARPNESS
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def _resize_map(grid: np.ndarray, side: int) -> np.ndarray:
    """[1, G, G, C] -> [1, side, side, C] float32, bicubically."""
    weights = bicubic_weights(grid.shape[1], side)
    resized = np.einsum("ph,qw,bhwc->bpqc", weights, weights, grid.astype(np.float64))
    return resized.astype(np.float32)


def resize_levels(embedding: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A level's embedding [1, T, N, C] at another N, through the map that its blocks make.

    None where `shape` is not that of another image size.
    """
    # The number of levels decides T, not the image.
    if embedding.ndim != 4 or len(shape) != 4 or embedding.shape[1::2] != shape[1::2]:
        return None
    blocks, old, new = (_side(n) for n in (shape[1], embedding.shape[2], shape[2]))
    if not (blocks and old and new):
        return None
    grid = unblockify(jnp.asarray(embedding, jnp.float32), old, blocks * old, blocks * old)
    return np.asarray(blockify(jnp.asarray(_resize_map(np.asarray(grid), blocks * new)), new))


def resize_tokens(embedding: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """An embedding of block tokens [1, n, C], row-major, at another n; None for other changes."""
    if embedding.ndim != 3 or len(shape) != 3 or embedding.shape[2] != shape[2]:
        return None
    old, new = _side(embedding.shape[1]), _side(shape[1])
    if not (old and new):
        return None
    return _resize_map(embedding.reshape(1, old, old, shape[2]), new).reshape(shape)


def _side(count: int) -> int:
    """The side of a square of so many tokens; 0 where they make none."""
    side = math.isqrt(count)
    return side if side * side == count else 0
