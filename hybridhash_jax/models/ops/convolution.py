"""How convolutions are computed; like `formulations`, it knows which way is fast where."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hybridhash_jax.models.ops import winograd

# Channels in times channels out from which Winograd's fewer multiplications save more on CPU than
# its sums cost. (In the gradient of the kernel they always do.)
_WIDE = 2**14


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of stride 1 that keeps the size: [B, H, W, C], [h, w, C, D] -> [B, H, W, D].

    The sides of the kernel are odd; the map is padded with zeros.
    """
    return _convolve(x, kernel)[0]


def _convolve(x: jax.Array, kernel: jax.Array):
    way = _way_on_cpu(x, kernel).convolve
    return lax.platform_dependent(x, kernel, cpu=way, default=_native), (x, kernel)


def _convolve_backward(saved, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    way = _way_on_cpu(x, kernel)
    grad_x = lax.platform_dependent(
        kernel, grad, cpu=way.input_gradient, default=_native_input_gradient
    )
    grad_kernel = lax.platform_dependent(
        x, kernel, grad, cpu=way.kernel_gradient, default=_native_kernel_gradient
    )
    return grad_x, grad_kernel


convolve.defvjp(_convolve, _convolve_backward)


class _Way(NamedTuple):
    convolve: Callable[[jax.Array, jax.Array], jax.Array]  # of map, kernel
    input_gradient: Callable[[jax.Array, jax.Array], jax.Array]  # of kernel, gradient
    kernel_gradient: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # of map, kernel, ...


def _way_on_cpu(x: jax.Array, kernel: jax.Array) -> _Way:
    even = all(side % 2 == 0 for side in x.shape[1:3])
    if not even or kernel.shape[:2] != (3, 3) or x.dtype != jnp.float32:
        return _Way(_native, _native_input_gradient, _kernel_gradient_by_products)
    if kernel.shape[2] * kernel.shape[3] < _WIDE:
        return _Way(_native, _native_input_gradient, _kernel_gradient_by_tiles)
    return _Way(winograd.convolve, winograd.input_gradient, _kernel_gradient_by_tiles)


def _native(x: jax.Array, kernel: jax.Array) -> jax.Array:
    pads = [(side // 2, side // 2) for side in kernel.shape[:2]]
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=names)


def _native_input_gradient(kernel: jax.Array, grad: jax.Array) -> jax.Array:
    # The convolution that JAX would transpose this one to has operands laid out such that XLA
    # leaves its fast way on CPU.
    return _native(grad, jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2))


def _native_kernel_gradient(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    return jax.linear_transpose(lambda kernel: _native(x, kernel), kernel)(grad)[0]


def _kernel_gradient_by_tiles(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    del kernel  # 3x3
    return winograd.kernel_gradient(x, grad)


def _kernel_gradient_by_products(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    """One product [C, B*H*W] x [B*H*W, D] for each place of the kernel."""
    (rows, columns, channels, _), (_, height, width, _) = kernel.shape, x.shape
    pads = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))
    padded, grad = jnp.pad(x, pads), grad.reshape(-1, grad.shape[-1])

    def product(row: int, column: int) -> jax.Array:
        part = padded[:, row : row + height, column : column + width].reshape(-1, channels)
        return jnp.matmul(part.T, grad, preferred_element_type=jnp.float32)

    places = [product(row, column) for row in range(rows) for column in range(columns)]
    return jnp.stack(places).reshape(kernel.shape).astype(kernel.dtype)
