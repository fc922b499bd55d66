"""Winograd's convolutions: exact where numbers are, and in float32 as exact as convolving."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hybridhash_jax.models.ops import winograd

NAMES = ("NHWC", "HWIO", "NHWC")


def plain(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NAMES)


def plain_gradients(x, kernel, grad):
    return jax.vjp(plain, x, kernel)[1](grad)


def whole_numbers(seed, *shape):
    return jax.random.randint(jax.random.key(seed), shape, -8, 9).astype(jnp.float32)


@pytest.mark.parametrize("height, width", [(2, 2), (2, 6), (8, 4)])
def test_of_whole_numbers_it_is_exact_to_the_last_bit(height, width):
    x = whole_numbers(0, 3, height, width, 5)
    kernel, grad = whole_numbers(1, 3, 3, 5, 7), whole_numbers(2, 3, height, width, 7)
    grad_x, grad_kernel = plain_gradients(x, kernel, grad)
    np.testing.assert_array_equal(winograd.convolve(x, kernel), plain(x, kernel))
    np.testing.assert_array_equal(winograd.input_gradient(kernel, grad), grad_x)
    np.testing.assert_array_equal(winograd.kernel_gradient(x, grad), grad_kernel)


def root_mean_square(x):
    return np.sqrt(np.mean(np.square(np.asarray(x, np.float64))))


def test_it_rounds_about_as_the_convolution_itself():
    """Of the paper's first 3x3 convolution, on a part of its map; the truth is in float64."""
    shapes = {"x": (2, 14, 14, 128), "kernel": (3, 3, 128, 256), "grad": (2, 14, 14, 256)}
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    with jax.enable_x64(True):
        exact = {name: jnp.asarray(value, jnp.float64) for name, value in values.items()}
        truths = [plain(exact["x"], exact["kernel"]), *plain_gradients(**exact)]
        truths = [np.asarray(truth) for truth in truths]
    x, kernel, grad = (jnp.asarray(value) for value in values.values())
    usual = [plain(x, kernel), *plain_gradients(x, kernel, grad)]
    own = [
        winograd.convolve(x, kernel),
        winograd.input_gradient(kernel, grad),
        winograd.kernel_gradient(x, grad),
    ]
    for truth, one, other in zip(truths, own, usual, strict=True):
        error = root_mean_square(one - truth) / root_mean_square(truth)
        usual_error = root_mean_square(other - truth) / root_mean_square(truth)
        assert usual_error < 1e-6
        assert error < 1e-6
