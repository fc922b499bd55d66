"""3x3 convolutions with 4/9 of the multiplications: Winograd's F(2x2, 3x3).

A tile of 4x4 values gives 2x2 results. Tile and kernel are taken to 4x4 points by sums alone, where
a convolution is a product a point; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
Networks (CVPR 2016). With this smallest tile float32 rounds about as in the convolution itself; tiles
of 6x6 would need a quarter of the multiplications, and round several times as much.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Grid = Sequence[Sequence[jax.Array]]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C], [3, 3, C, D] -> [B, H, W, D] with zeros around; H and W are even."""
    return _convolve(x, _both_ways(_of_kernel, kernel))


def input_gradient(kernel: jax.Array, grad: jax.Array) -> jax.Array:
    """The gradient [B, H, W, C] of `convolve`'s map from that of its result, [B, H, W, D]."""
    points = _both_ways(_of_kernel, kernel[::-1, ::-1])
    return _convolve(grad, [[point.T for point in row] for row in points])


def _convolve(x: jax.Array, kernel_points: Grid) -> jax.Array:
    batch, height, width, _ = x.shape
    points = _products(_both_ways(_of_tile, _tiles(x)), kernel_points)
    squares = [
        [place.reshape(batch, height // 2, width // 2, -1) for place in row]
        for row in _both_ways(_results, points)
    ]
    out = jnp.stack([jnp.stack(row, 3) for row in squares], 2)
    return out.reshape(batch, height, width, -1)


def kernel_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
    """The gradient [3, 3, C, D] of `convolve`'s kernel from that of its result, [B, H, W, D]."""
    # The four results of a tile lie in its middle. They are taken from the padded map: without it
    # XLA computes what the gradient comes from anew for each of their sums.
    middle = [row[1:3] for row in _tiles(grad)[1:3]]
    tiles = [[tile.T for tile in row] for row in _both_ways(_of_tile, _tiles(x))]
    kernel = _both_ways(_kernel, _products(tiles, _both_ways(_of_results, middle)))
    return jnp.stack([jnp.stack(row) for row in kernel])


def _products(left: Grid, right: Grid) -> Grid:
    return [[a @ b for a, b in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def _tiles(x: jax.Array) -> Grid:
    """The 4x4 places of all tiles, which overlap by two values: each [B * H/2 * W/2, C]."""
    _, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [
        [
            x[:, row : row + height : 2, column : column + width : 2].reshape(-1, channels)
            for column in range(4)
        ]
        for row in range(4)
    ]


def _both_ways(change: Callable[..., Sequence[jax.Array]], grid: Grid | jax.Array) -> Grid:
    """`change`, of one axis, along the columns of a grid and then along its rows."""
    columns = [change(*column) for column in zip(*grid, strict=True)]
    return [change(*row) for row in zip(*columns, strict=True)]


def _of_tile(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Sequence[jax.Array]:
    return a - c, b + c, c - b, d - b


def _of_kernel(a: jax.Array, b: jax.Array, c: jax.Array) -> Sequence[jax.Array]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _results(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Sequence[jax.Array]:
    return a + b + c, b - c + d


def _of_results(a: jax.Array, b: jax.Array) -> Sequence[jax.Array]:
    """`_results`, transposed."""
    return a, a + b, a - b, b


def _kernel(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Sequence[jax.Array]:
    """`_of_kernel`, transposed."""
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d
