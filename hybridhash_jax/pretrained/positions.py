"""Learned position embeddings, brought to another number of tokens."""

import math

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


def resize_map(grid: np.ndarray, side: int) -> np.ndarray:
    """[1, G, G, C] -> [1, side, side, C] float32, bicubically."""
    weights = bicubic_weights(grid.shape[1], side)
    resized = np.einsum("ph,qw,bhwc->bpqc", weights, weights, grid.astype(np.float64))
    return resized.astype(np.float32)


def resize_levels(embedding: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A level's embedding [1, T, N, C] at another T and N, through the map that its blocks make.

    Returns:
      The embedding of `shape`, or None where `shape` is more than another image size away.
    """
    if embedding.ndim != 4 or len(shape) != 4 or embedding.shape[3] != shape[3]:
        return None
    sides = [_side(n) for n in (*embedding.shape[1:3], *shape[1:3])]
    if None in sides:
        return None
    blocks, tokens, new_blocks, new_tokens = (side or 0 for side in sides)
    if blocks != new_blocks:  # the number of levels decides it, not the image
        return None
    old, new = blocks * tokens, new_blocks * new_tokens
    grid = unblockify(embedding, tokens, old, old)  # pyright: ignore[reportArgumentType]
    resized = resize_map(np.asarray(grid), new)
    return np.asarray(blockify(resized, new_tokens))  # pyright: ignore[reportArgumentType]


def resize_tokens(embedding: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """An embedding of block tokens [1, n, C] at another n, tokens row-major on their grid.

    Returns:
      The embedding of `shape`, or None where more than the number of tokens differs.
    """
    if embedding.ndim != 3 or len(shape) != 3 or embedding.shape[2] != shape[2]:
        return None
    old, new = _side(embedding.shape[1]), _side(shape[1])
    if old is None or new is None:
        return None
    grid = embedding.reshape(1, old, old, shape[2])
    return resize_map(grid, new).reshape(shape)


def _side(count: int) -> int | None:
    side = math.isqrt(count)
    return side if side and side * side == count else None
