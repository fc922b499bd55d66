"""What losses over pairs and triplets of images share."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hybridhash_jax.methods.bank_pairs import PairSums
from hybridhash_jax.methods.method import Rows, wide


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


def triplet_sums(
    scores: Float[Array, "A M"],
    positive: Bool[Array, "A M"],
    negative: Bool[Array, "A M"],
    term: Callable[[jax.Array], jax.Array],
) -> Float[Array, " A"]:
    """By anchor the sum of term(score of a positive - score of a negative) over all those pairs.

    One positive of each anchor at a time, as many times as an anchor has positives at most: the
    memory is that of `scores`, and the time that of the triplets that there are.
    """
    order = jnp.argsort(~positive, axis=1)  # positives first
    ranked = jnp.take_along_axis(scores, order, axis=1).T
    counts = positive.sum(axis=1)
    return cast(jax.Array, _ranked_sums(term, ranked, scores, counts, negative))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ranked_sums(
    term: Callable[[jax.Array], jax.Array],
    ranked: Float[Array, "M A"],
    scores: Float[Array, "A M"],
    counts: Int[Array, " A"],
    negative: Bool[Array, "A M"],
) -> Float[Array, " A"]:
    """`triplet_sums`, the positives being the first `counts` of the scores in `ranked`."""
    return _sums_and_slopes(term, ranked, scores, counts, negative)[0]


def _sums_and_slopes(
    term: Callable[[jax.Array], jax.Array],
    ranked: jax.Array,
    scores: jax.Array,
    counts: jax.Array,
    negative: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The sums, and their derivatives by `ranked` and by `scores`."""

    def add(rank: Any, so_far: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        sums, by_ranked, by_scores = so_far
        difference = ranked[rank][:, None] - scores
        values, slopes = jax.jvp(term, (difference,), (jnp.ones_like(difference),))
        counted = negative & (rank < counts)[:, None]
        slopes = jnp.where(counted, slopes, 0)
        sums += jnp.where(counted, values, 0).sum(axis=1)
        return sums, by_ranked.at[rank].set(slopes.sum(axis=1)), by_scores - slopes

    nothing = jnp.zeros_like(scores[:, 0]), jnp.zeros_like(ranked), jnp.zeros_like(scores)
    sums, by_ranked, by_scores = cast(
        tuple[jax.Array, jax.Array, jax.Array],
        jax.lax.fori_loop(0, counts.max(), add, nothing),
    )
    return sums, (by_ranked, by_scores)


def _backward(_: Any, slopes: tuple[jax.Array, jax.Array], gradient: jax.Array) -> Any:
    return gradient[None, :] * slopes[0], gradient[:, None] * slopes[1], None, None


_ranked_sums.defvjp(_sums_and_slopes, _backward)


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
