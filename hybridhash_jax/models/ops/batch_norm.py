"""Batch norm by the statistics of the batch, with a gradient that keeps the input alone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hybridhash_jax.models.ops.sums import sum_rows


def batch_norm(
    x: Float[Array, "M C"], scale: Float[Array, " C"], bias: Float[Array, " C"], epsilon: float
) -> tuple[Float[Array, "M C"], Float[Array, " C"], Float[Array, " C"]]:
    """(x normalised over its rows, scaled and shifted; their mean; their variance).

    Computed in float32, the first result is of the type of x. The variance is the population's.
    Gradients flow through the first result, also by way of the statistics; the others have none.
    """
    return _with_gradient(x, scale, bias, epsilon)


def _normalise(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    mean = sum_rows(x) / len(x)
    centred = x.astype(jnp.float32) - mean[None]
    variance = sum_rows(centred**2) / len(x)
    factor = scale * lax.rsqrt(variance + epsilon)
    return (centred * factor[None] + bias[None]).astype(x.dtype), mean, variance


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    out = _normalise(x, scale, bias, epsilon)
    return out, (x, scale, *out[1:])


def _backward(epsilon: float, saved: tuple[jax.Array, ...], grads: tuple[jax.Array, ...]):
    x, scale, mean, variance = saved
    grad = grads[0].astype(jnp.float32)
    inverse = lax.rsqrt(variance + epsilon)
    normal = (x.astype(jnp.float32) - mean[None]) * inverse[None]
    of_bias, of_scale = sum_rows(grad), sum_rows(grad * normal)
    through = (of_bias[None] + normal * of_scale[None]) / len(x)  # by way of the statistics
    of_x = (grad - through) * (scale * inverse)[None]
    return of_x.astype(x.dtype), of_scale, of_bias


_with_gradient: Any = jax.custom_vjp(_normalise, nondiff_argnums=(3,))
_with_gradient.defvjp(_forward, _backward)
