"""How attention is computed; like `formulations`, it knows which way is fast where."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# On two cores 16 were as fast, but took a third longer to compile.
_PARTS = 4
_SCORES_WORTH_PARTS = 2**20


def attend(qkv: jax.Array, num_heads: int) -> jax.Array:
    """softmax(query key^T / sqrt(D)) value for each of H heads of D channels.

    The softmax is in float32. The derivative is that of FlashAttention (arXiv 2205.14135), which
    sums over D where the softmax's own sums over N.

    Args:
      qkv: [B, N, 3 H D], the heads of query, then those of key, then those of value.
      num_heads: H.

    Returns:
      [B, N, H D], the heads one after another.
    """
    batch, tokens, _ = qkv.shape
    worth = batch * num_heads * tokens**2 >= _SCORES_WORTH_PARTS
    parts = max(n for n in range(1, _PARTS + 1) if num_heads % n == 0) if worth else 1
    return lax.platform_dependent(
        qkv,
        # XLA computes a batch of products on one core of a CPU, but parts side by side.
        cpu=functools.partial(_attend_in_parts, num_heads=num_heads, parts=parts),
        default=functools.partial(_attend_in_parts, num_heads=num_heads, parts=1),
    )


def _attend_in_parts(qkv: jax.Array, *, num_heads: int, parts: int) -> jax.Array:
    """Some heads at a time.

    By splits of columns, whose gradient is one concatenation: three times as fast on a CPU as that
    of an array with axes for query, key and value and for the heads. And by products of three
    dimensions, 1.2 times as fast as those of four.
    """
    batch, tokens, channels = qkv.shape
    head_dim = channels // 3 // num_heads

    def by_head(columns: jax.Array) -> jax.Array:
        heads = columns.reshape(batch, tokens, -1, head_dim).swapaxes(1, 2)
        return heads.reshape(-1, tokens, head_dim)

    columns = [by_head(x) for x in jnp.split(qkv, 3 * parts, axis=-1)]
    out = []
    for part in range(parts):
        query, key, value = columns[part::parts]
        heads = _attend(query * head_dim**-0.5, key, value).reshape(batch, -1, tokens, head_dim)
        out.append(heads.swapaxes(1, 2).reshape(batch, tokens, -1))
    return jnp.concatenate(out, axis=-1)


@jax.custom_vjp
def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    return _attend_forward(query, key, value)[0]


def _attend_forward(query: jax.Array, key: jax.Array, value: jax.Array):
    weights, scale = lax.platform_dependent(
        query, key, cpu=_unnormalized_weights, default=_softmax_weights
    )
    out = jnp.einsum("gqk,gkc->gqc", weights, value)
    out = (out * scale).astype(value.dtype)
    return out, (query, key, value, weights, scale, out)


def _softmax_weights(query: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    scores = jnp.einsum("gqc,gkc->gqk", query, key).astype(jnp.float32)
    weights = jax.nn.softmax(scores).astype(query.dtype)
    return weights, jnp.ones((*scores.shape[:2], 1), jnp.float32)


def _unnormalized_weights(query: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(scores - their maximum) and 1 / its sum: the division is left to the D columns of out."""
    scores = jnp.einsum("gqc,gkc->gqk", query, key).astype(jnp.float32)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    return weights.astype(query.dtype), 1 / weights.sum(-1, keepdims=True)


def _attend_backward(saved, grad: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    query, key, value, weights, scale, out = saved
    dtype = value.dtype
    shift = jnp.sum(scale * grad * out, axis=-1, keepdims=True, dtype=jnp.float32)
    grad = (scale * grad).astype(dtype)
    grad_weights = jnp.einsum("gqc,gkc->gqk", grad, value).astype(jnp.float32)
    grad_scores = (weights * (grad_weights - shift)).astype(dtype)
    return (
        jnp.einsum("gqk,gkc->gqc", grad_scores, key),
        _transposed_product(grad_scores, query),
        _transposed_product(weights, grad),
    )


def _transposed_product(weights: jax.Array, x: jax.Array) -> jax.Array:
    """[G, N, M], [G, N, C] -> [G, M, C]."""
    return lax.platform_dependent(
        weights,
        x,
        cpu=_product_with_sides_exchanged,
        default=lambda weights, x: jnp.einsum("gqk,gqc->gkc", weights, x),
    )


def _product_with_sides_exchanged(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Faster on CPU; the barriers keep XLA from exchanging them back."""
    product = lax.optimization_barrier(jnp.einsum("gqc,gqk->gck", x, weights))
    return lax.optimization_barrier(product.transpose(0, 2, 1))


_attend.defvjp(_attend_forward, _attend_backward)
