"""What losses of classes share: images that have a label, cosines, cross-entropies of label sets."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.method import Examples


def labelled(examples: Examples) -> Bool[Array, " B"]:
    """Which images count: those with a label, and no padding."""
    return examples.mask & jnp.any(examples.labels > 0, axis=1)


def mean_over(values: Float[Array, "B ..."], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The mean over the rows that `mask` keeps, and over all that a row has; 0 for no row."""
    kept = mask.reshape(-1, *[1] * (values.ndim - 1))
    count = jnp.sum(mask, dtype=values.dtype) * (values.size // len(values))
    return jnp.sum(jnp.where(kept, values, 0)) / jnp.maximum(count, 1)


def product(x: Float[Array, "B K"], others: Float[Array, "M K"]) -> Float[Array, "B M"]:
    """All inner products."""
    return jnp.matmul(x, others.T, precision="highest")


def unit(x: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """Rows of length 1; of zeros zeros, with a gradient as if they had length 1."""
    squares = jnp.sum(x * x, axis=1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))


def cosines(x: Float[Array, "B K"], others: Float[Array, "M K"]) -> Float[Array, "B M"]:
    """Of all pairs of rows."""
    return product(unit(x), unit(others))


def shares(
    labels: Shaped[Array, "B classes"], like: Float[Array, "..."]
) -> Float[Array, "B classes"]:
    """Multi-hot labels divided by their number, in the type of `like`; zeros without a label."""
    present = (labels > 0).astype(like.dtype)
    return present / jnp.maximum(present.sum(axis=1, keepdims=True), 1)


def cross_entropy(
    logits: Float[Array, "B classes"], labels: Shaped[Array, "B classes"], mask: Bool[Array, " B"]
) -> Float[Array, ""]:
    """Of softmax against `shares` of the multi-hot labels, a mean over the rows of the mask."""
    losses = -jnp.sum(shares(labels, logits) * jax.nn.log_softmax(logits), axis=1)
    return mean_over(losses, mask)
