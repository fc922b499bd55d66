"""Which way a convolution is computed; that all ways agree is in `formulations_test`."""

import jax
import jax.numpy as jnp
import pytest

from hybridhash_jax.models.ops.convolution import convolve


def convolutions(platform, x_shape, kernel_shape, dtype=jnp.float32):
    """How many the forward pass is lowered to, and how many forward and backward pass."""
    x, kernel = jax.ShapeDtypeStruct(x_shape, dtype), jax.ShapeDtypeStruct(kernel_shape, dtype)

    def both(x, kernel):
        out, pull = jax.vjp(convolve, x, kernel)
        return pull(out)

    lowered = [
        jax.jit(function).trace(x, kernel).lower(lowering_platforms=(platform,))
        for function in (convolve, both)
    ]
    return [text.as_text().count("stablehlo.convolution") for text in lowered]


@pytest.mark.parametrize(
    ("kernel_shape", "dtype"),
    [
        ((3, 3, 32, 64), jnp.float32),
        ((1, 3, 32, 64), jnp.float32),
        ((3, 3, 32, 64), jnp.bfloat16),
    ],
)
def test_on_cpu_the_gradient_of_the_kernel_is_made_of_products(kernel_shape, dtype):
    # Both passes convolve: the map, and the gradient of the result.
    assert convolutions("cpu", (2, 7, 8, 32), kernel_shape, dtype) == [1, 2]


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_convolve_always(platform):
    assert convolutions(platform, (2, 56, 56, 128), (3, 3, 128, 256)) == [1, 3]
