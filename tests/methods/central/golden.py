"""Stored losses, gradients and states of the authors' code, and the comparison with them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "golden" / "methods"

# Relative, of a loss and of a gradient's largest number.
TOLERANCES = {jnp.float64: (1e-9, 1e-8), jnp.float32: (1e-5, 1e-5)}

both_types = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(jnp.float64, id="float64"),
        pytest.param(jnp.float32, id="float32", marks=pytest.mark.thorough),
    ],
)


def load(name):
    """The arrays of NAME.npz by name."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def check(loss, inputs, value, gradients, dtype):
    """Compares a loss of `inputs`, float arrays that it is differentiated by, with what is stored.

    `loss` is called with the inputs in `dtype`; a stored gradient of None is not compared.
    """
    of_loss, of_gradient = TOLERANCES[dtype]
    with jax.enable_x64(dtype == jnp.float64):
        arrays = tuple(jnp.asarray(array, dtype) for array in inputs)
        # One program compiles sooner than each of its operations.
        differentiated: Any = jax.jit(jax.value_and_grad(loss, tuple(range(len(arrays)))))
        ours, ours_gradients = differentiated(*arrays)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, value, rtol=of_loss)
        for ours_gradient, gradient in zip(ours_gradients, gradients, strict=True):
            scale = np.abs(gradient).max() or 1
            np.testing.assert_allclose(ours_gradient, gradient, rtol=0, atol=of_gradient * scale)


def whole(rows):
    """A mask that keeps all rows."""
    return jnp.ones(len(rows), bool)
