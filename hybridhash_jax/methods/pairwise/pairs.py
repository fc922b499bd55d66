"""What losses over pairs and triplets of images share."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hybridhash_jax.methods.hybridhash import PairSums
from hybridhash_jax.methods.method import Rows

# Triplets that are computed at a time: 4 MiB of float32.
_BLOCK = 1 << 20


def wide(x: jax.Array) -> jax.Array:
    """The array in float32, or in float64 if it is that."""
    return x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def products(x: Float[Array, "B K"], others: Float[Array, "M K"]) -> Float[Array, "B M"]:
    """Inner products of the rows of one and the other."""
    return jnp.matmul(wide(x), wide(others).T, precision="highest")


def squared_distances(x: Float[Array, "B K"], others: Float[Array, "M K"]) -> Float[Array, "B M"]:
    """Squared Euclidean distances between the rows of one and the other."""
    squares, other_squares = (jnp.sum(jnp.square(wide(a)), axis=1) for a in (x, others))
    distances = squares[:, None] + other_squares[None, :] - 2 * products(x, others)
    return jnp.maximum(distances, 0)  # rounding can leave less


def pairs_within(mask: Bool[Array, " B"], *, with_itself: bool = False) -> Bool[Array, "B B"]:
    """The ordered pairs of a batch's images that `mask` keeps."""
    pairs = mask[:, None] & mask[None, :]
    return pairs if with_itself else pairs & ~jnp.eye(len(mask), dtype=bool)


def sums_by_kind(
    of_similar: Float[Array, "B M"],
    of_dissimilar: Float[Array, "B M"],
    similar: Bool[Array, "B M"],
    pair_mask: Bool[Array, "B M"],
) -> PairSums:
    """Sums of the losses that a pair has if it is similar, and if it is not, over `pair_mask`."""
    positive, negative = similar & pair_mask, ~similar & pair_mask
    return PairSums(
        jnp.sum(jnp.where(positive, of_similar, 0)),
        jnp.sum(jnp.where(negative, of_dissimilar, 0)),
        jnp.sum(positive, dtype=of_similar.dtype),
        jnp.sum(negative, dtype=of_similar.dtype),
    )


def mean_over_pairs(sums: PairSums) -> jax.Array:
    """The mean over pairs of both kinds alike; 0 for none."""
    total = sums.positive + sums.negative
    return total / jnp.maximum(sums.similar + sums.dissimilar, 1).astype(total.dtype)


def mean_over_images(values: Float[Array, " B"], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The mean over the images that `mask` keeps; 0 for none."""
    count = jnp.sum(mask, dtype=values.dtype)
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(count, 1)


def signs(x: jax.Array) -> jax.Array:
    """The bits of a code as -1 and +1; 0 gives +1, as everywhere in codes."""
    return jnp.where(x >= 0, 1, -1).astype(x.dtype)


def triplet_sums(
    scores: Float[Array, "A M"],
    positive: Bool[Array, "A M"],
    negative: Bool[Array, "A M"],
    term: Callable[[jax.Array], jax.Array],
) -> Float[Array, " A"]:
    """By anchor the sum of term(score of a positive - score of a negative) over all those pairs.

    A few anchors at a time, computed again in the backward pass: the memory is one block's.
    """

    @jax.checkpoint
    def of_anchor(row: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        scores, positive, negative = row
        values = term(scores[:, None] - scores[None, :])
        return jnp.sum(jnp.where(positive[:, None] & negative[None, :], values, 0))

    anchors = max(_BLOCK // max(scores.shape[1], 1) ** 2, 1)
    rows = scores, positive, negative
    return cast(jax.Array, jax.lax.map(of_anchor, rows, batch_size=anchors))


def triplet_counts(
    positive: Bool[Array, "A M"], negative: Bool[Array, "A M"], dtype: Any
) -> Float[Array, " A"]:
    """How many triplets each anchor is in."""
    return jnp.sum(positive, axis=1, dtype=dtype) * jnp.sum(negative, axis=1, dtype=dtype)


def rows_at(index: Int[Array, " m"], arrays: Any, rows: Rows) -> Any:
    """Rows `index` [m] of a pytree of arrays [n, _] that `rows` splits, whole on every device.

    An index that is no row gives zeros. The arrays hold numbers.
    """

    def of_own(index: jax.Array, own: tuple[jax.Array, Any]) -> Any:
        numbers, arrays = own
        place = index - numbers[0]
        is_here = (place >= 0) & (place < len(numbers))
        place = jnp.clip(place, 0, len(numbers) - 1)

        def take(x: jax.Array) -> jax.Array:
            return jnp.where(is_here[:, None], x[place], 0)

        return jax.tree.map(take, arrays)

    numbers = jnp.arange(len(jax.tree.leaves(arrays)[0]), dtype=index.dtype)
    return rows.sum_over(of_own)(index, (numbers, arrays))
