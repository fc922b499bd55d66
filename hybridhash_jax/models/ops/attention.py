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


def attend(qkv: Float[Array, "G N HD3"], num_heads: int) -> Float[Array, "G N HD"]:
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
    groups, tokens, channels = qkv.shape
    parts = jnp.split(qkv, 3, axis=-1)
    query, key, value = (x.reshape(groups, tokens, num_heads, -1) for x in parts)  # [G, N, H, D]
    with jax.numpy_dtype_promotion("standard"):  # it adds a float32 bias of its own
        out = jax.nn.dot_product_attention(query, key, value)
    return out.reshape(groups, tokens, channels // 3)


def _attend_on_cpu(qkv: jax.Array, *, num_heads: int) -> jax.Array:
    """Some heads at a time.

    By splits of columns, whose gradient is one concatenation: three times as fast as that of an
    array with axes for query, key and value and for the heads.
    """
    groups, tokens, channels = qkv.shape
    head_dim = channels // 3 // num_heads
    # A program for batches of any size is made for large ones.
    worth = not isinstance(groups, int) or groups * num_heads * tokens**2 >= _SCORES_WORTH_PARTS
    parts = max(n for n in range(1, _PARTS + 1) if num_heads % n == 0) if worth else 1

    def by_head(columns: jax.Array) -> jax.Array:
        heads = columns.reshape(groups, tokens, -1, head_dim).swapaxes(1, 2)  # [G, h, N, D]
        return heads.reshape(-1, tokens, head_dim)

    columns = [by_head(x) for x in jnp.split(qkv, 3 * parts, axis=-1)]
    out = []
    for part in range(parts):
        query, key, value = columns[part::parts]
        scores = jnp.einsum("gqc,gkc->gqk", query * head_dim**-0.5, key)
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(value.dtype)
        heads = jnp.einsum("gqk,gkc->gqc", weights, value)  # [G h, N, D]
        heads = heads.reshape(groups, -1, tokens, head_dim).swapaxes(1, 2)  # [G, N, h, D]
        out.append(heads.reshape(groups, tokens, -1))
    return jnp.concatenate(out, axis=-1)
