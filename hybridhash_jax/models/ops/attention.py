"""Attention among tokens: JAX's own on accelerators, products of three dimensions on CPU."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# XLA computes a batch of products on one core of a CPU, but parts side by side. On two cores 16 were
# as fast, but took a third longer to compile.
_PARTS = 4
_SCORES_WORTH_PARTS = 2**20


def attend(qkv: Float[Array, "B N HD3"], num_heads: int) -> Float[Array, "B N HD"]:
    """softmax(query key^T / sqrt(D)) value for each of H heads of D channels.

    The softmax is in float32.

    Args:
      qkv: the heads of query one after another, then those of key, then those of value.
      num_heads: H.
    """
    return lax.platform_dependent(
        qkv,
        cpu=functools.partial(_attend_on_cpu, num_heads=num_heads),
        default=functools.partial(_attend, num_heads=num_heads),
    )


def _attend(qkv: jax.Array, *, num_heads: int) -> jax.Array:
    batch, tokens, channels = qkv.shape
    parts = jnp.split(qkv, 3, axis=-1)
    query, key, value = (x.reshape(batch, tokens, num_heads, -1) for x in parts)  # [B, N, H, D]
    out = jax.nn.dot_product_attention(query, key, value)
    return out.reshape(batch, tokens, channels // 3)


def _attend_on_cpu(qkv: jax.Array, *, num_heads: int) -> jax.Array:
    """Some heads at a time.

    By splits of columns, whose gradient is one concatenation: three times as fast as that of an
    array with axes for query, key and value and for the heads.
    """
    batch, tokens, channels = qkv.shape
    head_dim = channels // 3 // num_heads
    worth = batch * num_heads * tokens**2 >= _SCORES_WORTH_PARTS
    parts = max(n for n in range(1, _PARTS + 1) if num_heads % n == 0) if worth else 1

    def by_head(columns: jax.Array) -> jax.Array:
        heads = columns.reshape(batch, tokens, -1, head_dim).swapaxes(1, 2)  # [B, h, N, D]
        return heads.reshape(-1, tokens, head_dim)

    columns = [by_head(x) for x in jnp.split(qkv, 3 * parts, axis=-1)]
    out = []
    for part in range(parts):
        query, key, value = columns[part::parts]
        heads = _attend_in_groups(query * head_dim**-0.5, key, value)  # [B h, N, D]
        heads = heads.reshape(batch, -1, tokens, head_dim).swapaxes(1, 2)  # [B, N, h, D]
        out.append(heads.reshape(batch, tokens, -1))
    return jnp.concatenate(out, axis=-1)


@jax.custom_vjp
def _attend_in_groups(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(query key^T) value of arrays [G, N, D].

    The derivative is FlashAttention's (arXiv 2205.14135), which sums over D where the softmax's own
    sums over N.
    """
    return _forward(query, key, value)[0]


def _forward(query: jax.Array, key: jax.Array, value: jax.Array):
    scores = jnp.einsum("gqc,gkc->gqk", query, key).astype(jnp.float32)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    scale = 1 / weights.sum(-1, keepdims=True)  # applied to the D columns of the result, not to N
    weights = weights.astype(query.dtype)
    out = (jnp.einsum("gqk,gkc->gqc", weights, value) * scale).astype(value.dtype)
    return out, (query, key, value, weights, scale, out)


def _backward(saved, grad: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
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


_attend_in_groups.defvjp(_forward, _backward)


def _transposed_product(weights: jax.Array, x: jax.Array) -> jax.Array:
    """[G, N, M], [G, N, C] -> [G, M, C]; the barriers keep XLA from exchanging the sides back."""
    product = lax.optimization_barrier(jnp.einsum("gqc,gqk->gck", x, weights))
    return lax.optimization_barrier(product.transpose(0, 2, 1))
