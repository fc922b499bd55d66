"""Convolutions, with gradients that XLA computes fast on CPU."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def convolve(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"]
) -> Float[Array, "B H W D"]:
    """A convolution of stride 1 that keeps the size.

    The sides of the kernel are odd; the map is padded with zeros.
    """
    return _convolve(x, kernel)


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    pads = [(side // 2, side // 2) for side in kernel.shape[:2]]
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=names)


def _backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # The convolution that JAX would transpose this one to has operands laid out such that XLA
    # leaves its fast way on CPU.
    grad_x = _convolve(grad, jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2))
    grad_kernel = lax.platform_dependent(
        x, kernel, grad, cpu=_kernel_gradient_by_products, default=_kernel_gradient
    )
    return grad_x, grad_kernel


convolve.defvjp(lambda x, kernel: (_convolve(x, kernel), (x, kernel)), _backward)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> jax.Array:
    return jax.linear_transpose(lambda kernel: _convolve(x, kernel), kernel)(grad)[0]


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
