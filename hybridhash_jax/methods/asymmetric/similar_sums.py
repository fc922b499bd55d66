"""Sums over the images that share a label, without the matrix of who does."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# (JAX's own types are not complete, and Optax has none.)

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from hybridhash_jax.methods.hybridhash import similarity

_BLOCK = 1 << 22  # numbers of a block of similarities: 16 MiB of float32


def similar_sums(
    labels: Shaped[Array, "B classes"],
    other_labels: Shaped[Array, "M classes"],
    values: Float[Array, "M D"],
) -> Float[Array, "B D"]:
    """For each of B images the sum of `values` over those of M images that share a label with it.

    By sums over the classes where no image has several labels, else in blocks of the longer side.
    """

    def by_class(labels: jax.Array, others: jax.Array, values: jax.Array) -> jax.Array:
        of_classes = jnp.matmul(others.astype(values.dtype).T, values, precision="highest")
        return jnp.matmul(labels.astype(values.dtype), of_classes, precision="highest")

    several = (labels.sum(axis=1) > 1).any() | (other_labels.sum(axis=1) > 1).any()
    sums: jax.Array = lax.cond(several, _by_pair, by_class, labels, other_labels, values)
    return sums


def _by_pair(labels: jax.Array, others: jax.Array, values: jax.Array) -> jax.Array:
    if len(labels) >= len(others):
        return _in_blocks(lambda own: _of_pairs(own, others, values), labels, len(others))
    block = max(_BLOCK // len(labels), 1)
    if len(others) <= block:
        return _of_pairs(labels, others, values)
    padding = ((0, -len(others) % block), (0, 0))  # without labels, so similar to none
    blocks = [jnp.pad(x, padding).reshape(-1, block, x.shape[1]) for x in (others, values)]

    def add(total: jax.Array, own: list[jax.Array]) -> tuple[jax.Array, None]:
        return total + _of_pairs(labels, *own), None

    start = jnp.zeros((len(labels), values.shape[1]), values.dtype)
    sums: jax.Array = lax.scan(add, start, blocks)[0]
    return sums


def _of_pairs(labels: jax.Array, others: jax.Array, values: jax.Array) -> jax.Array:
    similar = similarity(labels, others).astype(values.dtype)
    return jnp.matmul(similar, values, precision="highest")


def _in_blocks(
    function: Callable[[jax.Array], jax.Array], rows: jax.Array, width: int
) -> jax.Array:
    """`function` of rows [B, ...] -> [B, D], called with some rows at a time."""
    block = max(_BLOCK // max(width, 1), 1)
    if len(rows) <= block:
        return function(rows)
    blocks = jnp.pad(rows, ((0, -len(rows) % block), (0, 0))).reshape(-1, block, rows.shape[1])
    found: jax.Array = lax.map(function, blocks)
    return found.reshape(-1, found.shape[2])[: len(rows)]
