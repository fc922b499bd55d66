"""Losses and gradients that other code computed, and how ours are compared with them."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods import Examples

_FOLDER = Path(__file__).parents[2] / "golden" / "methods"
PRECISIONS = ("float64", pytest.param("float32", marks=pytest.mark.thorough))
# For methods that look at neither.
NO_STEP: Any = 0
NO_KEY: Any = None


def load(name):
    """The arrays of one file by name."""
    with np.load(_FOLDER / f"{name}.npz") as file:
        return dict(file)


@contextlib.contextmanager
def precision(dtype):
    """Double precision, if that is what is asked for."""
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        yield


def examples_of(labels, index=None):
    """A batch of these labels without padding."""
    labels = jnp.asarray(labels)
    index = jnp.arange(len(labels)) if index is None else jnp.asarray(index)
    return Examples(labels, labels, jnp.ones(len(labels), bool), index)


def check_loss(loss, outputs, expected, gradients, dtype, tolerance=1e-5):
    """Compares loss(*outputs) and its gradients with what a file has; returns what else it gave.

    `tolerance` is relative, in float32; of gradients, to the largest number among them.
    """
    of_loss, of_gradient = (1e-9, 1e-8) if dtype == "float64" else (tolerance, tolerance)
    outputs = [jnp.asarray(x, dtype) for x in outputs]
    places = tuple(range(len(outputs)))
    # One program compiles sooner than each of its operations.
    differentiated: Any = jax.jit(jax.value_and_grad(loss, places, has_aux=True))
    (value, rest), ours = differentiated(*outputs)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=of_loss)
    for gradient, other in zip(ours, gradients, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(gradient, other, rtol=of_gradient, atol=of_gradient * scale)
    return rest
