"""GELU, LayerNorm and max-pooling, with derivatives that take less time or memory than JAX's."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, in float32 and rounded to the type of x.

    By erf, as PyTorch has it: erfc, JAX's own way, costs three times as much on CPU. The backward
    pass computes erf again, which is cheaper than to keep it.
    """
    wide = x.astype(jnp.float32)
    return (wide * _normal_distribution(wide)).astype(x.dtype)


def _normal_distribution(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + lax.erf(x * 0.5**0.5))


def _gelu_backward(x: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    wide = lax.optimization_barrier(x).astype(jnp.float32)
    density = (2 * jnp.pi) ** -0.5 * jnp.exp(-0.5 * jnp.square(wide))
    return (
        (grad.astype(jnp.float32) * (_normal_distribution(wide) + wide * density)).astype(x.dtype),
    )


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


@jax.custom_vjp
def layer_norm(
    x: Float[Array, "*groups C"], scale: Float[Array, " C"], bias: Float[Array, " C"], eps: float
) -> Float[Array, "*groups C"]:
    """LayerNorm over the last axis, computed in float32, in the type of x.

    The backward pass keeps x and the statistics alone: a fifth less memory for a whole gradient.
    """
    return _layer_norm(x, scale, bias, eps)[0]


def _layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float):
    flat = x.reshape(-1, x.shape[-1])  # [M, C]
    wide = flat.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    inverse_std = lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + eps)
    out = (wide - mean) * inverse_std * scale[None].astype(wide.dtype) + bias[None].astype(
        wide.dtype
    )
    return out.astype(x.dtype).reshape(x.shape), (flat, mean, inverse_std, scale)


def _layer_norm_backward(saved, grad: jax.Array):
    # Without the barrier XLA keeps `normed` of the forward pass instead of computing it again.
    flat, mean, inverse_std, scale = lax.optimization_barrier(saved)
    shape, dtype = grad.shape, grad.dtype
    grad = grad.reshape(flat.shape).astype(jnp.float32)
    normed = (flat.astype(jnp.float32) - mean) * inverse_std
    scaled = grad * scale[None].astype(jnp.float32)
    along = (scaled * normed).mean(-1, keepdims=True)
    grad_x = (scaled - scaled.mean(-1, keepdims=True) - normed * along) * inverse_std
    return grad_x.astype(dtype).reshape(shape), (grad * normed).sum(0), grad.sum(0), None


layer_norm.defvjp(_layer_norm, _layer_norm_backward)

Pads = tuple[tuple[int, int], tuple[int, int]]
_NO_PLACE = -1


def max_pool(x: Float[Array, "B H W C"], pads: Pads) -> Float[Array, "B h w C"]:
    """3x3 max-pool with stride 2; the padded height is 2 h + 1, and so is the width.

    Of equal values in a window the first has the gradient, as in PyTorch.

    Args:
      x: the map.
      pads: rows before and after, columns before and after.
    """
    return _max_pool(x, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, pads: Pads) -> jax.Array:
    return functools.reduce(jnp.maximum, _window_places(x, pads))


def _window_places(x: jax.Array, pads: Pads) -> list[jax.Array]:
    """The nine places of all windows, each [B, H', W', C], row by row."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    rows, columns = x.shape[1] - 2, x.shape[2] - 2
    starts = [(row, column) for row in range(3) for column in range(3)]
    return [x[:, row : row + rows : 2, column : column + columns : 2] for row, column in starts]


def _max_pool_forward(x: jax.Array, pads: Pads):
    first, *others = _window_places(x, pads)
    largest, place = first, jnp.zeros(first.shape, jnp.int8)
    for number, other in enumerate(others, 1):
        place = jnp.where(other > largest, jnp.int8(number), place)
        largest = jnp.maximum(largest, other)
    return largest, place


def _max_pool_backward(pads: Pads, place: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    """Each window's gradient goes to its largest place.

    The padded map is made of squares of 2x2 values. The even rows of square a are in windows a
    (place 0) and a - 1 (place 2), the odd rows in window a (place 1); likewise the columns. XLA's
    own derivatives, of `reduce_window` and of nine maxima, take twelve times as long on CPU.
    """
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    place, grad = jnp.pad(place, around, constant_values=_NO_PLACE), jnp.pad(grad, around)
    squares = [side - 1 for side in grad.shape[1:3]]

    def reached(row: int, column: int) -> jax.Array:
        """What the windows send to their place (row, column), by square."""
        starts = (1 - row // 2, 1 - column // 2)
        part = (slice(None), *(slice(a, a + n) for a, n in zip(starts, squares, strict=True)))
        return jnp.where(place[part] == 3 * row + column, grad[part], 0)

    even_rows = [reached(0, 0) + reached(0, 2) + reached(2, 0) + reached(2, 2)]
    even_rows.append(reached(0, 1) + reached(2, 1))
    odd_rows = [reached(1, 0) + reached(1, 2), reached(1, 1)]
    out = jnp.stack([jnp.stack(even_rows, 3), jnp.stack(odd_rows, 3)], 2)  # [B, a, 2, b, 2, C]
    height, width = (2 * side for side in squares)
    out = out.reshape(len(out), height, width, -1)  # [B, H, W, C]
    (above, below), (left, right) = pads
    # The last odd row and column of the squares are in no window.
    return (out[:, above : height - 1 - below, left : width - 1 - right],)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
