"""Attention among tokens: cuDNN's on GPUs, products of three dimensions on CPU and TPU."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# XLA computes a batch of products on one core of a CPU, but parts side by side. On two cores 16 were
# as fast, but took a third longer to compile.
_PARTS = 4
_SCORES_WORTH_PARTS = 2**20
# Below so many tokens cuDNN was not measured; the interactions have 1 and 4.
_CUDNN_TOKENS = 16
_AMPERE = 8.0  # the first compute capability that cuDNN's attention is for


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
        tpu=functools.partial(attend_channels_first, num_heads=num_heads),
        default=functools.partial(_attend_on_gpu, num_heads=num_heads),
    )


def _attend_on_gpu(qkv: jax.Array, *, num_heads: int) -> jax.Array:
    """By cuDNN where it can: half the time, and no scores in memory (an H200, docs/speed.md)."""
    implementation = "cudnn" if _cudnn_takes(qkv, num_heads) and has_cudnn() else "xla"
    return attend_by_jax(qkv, num_heads, implementation)


def _cudnn_takes(qkv: jax.Array, num_heads: int) -> bool:
    groups, tokens, channels = qkv.shape
    head_dim = channels // 3 // num_heads
    return (
        isinstance(groups, int)  # an exported program is for batches of any size
        and qkv.dtype in (jnp.bfloat16, jnp.float16)
        and tokens >= _CUDNN_TOKENS
        and tokens % 2 == 0  # JAX refuses to differentiate others
        and head_dim % 8 == 0
        and head_dim <= 128
    )


@functools.cache
def has_cudnn() -> bool:
    """Whether this process computes on NVIDIA GPUs that cuDNN's attention is for."""
    if jax.default_backend() != "gpu":
        return False
    device = jax.local_devices()[0]
    return "cuda" in device.client.platform_version and float(device.compute_capability) >= _AMPERE


def attend_by_jax(
    qkv: Float[Array, "G N HD3"], num_heads: int, implementation: Literal["xla", "cudnn"]
) -> Float[Array, "G N HD"]:
    """As `attend`, by one of the implementations of JAX's own function."""
    groups, tokens, channels = qkv.shape
    parts = jnp.split(qkv, 3, axis=-1)
    query, key, value = (x.reshape(groups, tokens, num_heads, -1) for x in parts)  # [G, N, H, D]
    with jax.numpy_dtype_promotion("standard"):  # it adds a float32 bias of its own
        out = jax.nn.dot_product_attention(query, key, value, implementation=implementation)
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


def attend_channels_first(qkv: Float[Array, "G N HD3"], num_heads: int) -> Float[Array, "G N HD"]:
    """As `attend`, with tokens along the last axis, which TPUs pad to a multiple of 128.

    A head of 32 channels there would take four times its memory; 196 tokens take 1.3 times theirs.
    By the TPU compiler's estimate a layer's attention and its gradient take 14 to 24 % fewer cycles
    than JAX's own, and keep no weights; it was never run on one.
    """
    _, tokens, channels = qkv.shape
    head = (channels // 3 // num_heads, tokens)
    parts = jnp.split(qkv, 3, axis=-1)
    query, key, value = (x.swapaxes(1, 2).reshape(-1, *head) for x in parts)
    out = _weighted(query, key, value)  # [G H, D, N]
    return out.reshape(-1, channels // 3, tokens).swapaxes(1, 2)


@jax.custom_vjp
def _weighted(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """[G H, D, N]; the backward pass computes the weights again instead of keeping them."""
    return jnp.einsum("gqk,gck->gcq", _weights(query, key).astype(value.dtype), value)


def _scores(one: jax.Array, other: jax.Array) -> jax.Array:
    wide = jnp.float64 if one.dtype == jnp.float64 else jnp.float32
    return jnp.einsum("gcq,gck->gqk", one, other, preferred_element_type=wide)


def _weights(query: jax.Array, key: jax.Array) -> jax.Array:
    return jax.nn.softmax(_scores(query, key) * query.shape[1] ** -0.5)


def _weighted_forward(query: jax.Array, key: jax.Array, value: jax.Array):
    out = _weighted(query, key, value)
    return out, (query, key, value, out)


def _weighted_backward(saved: tuple[jax.Array, ...], grad: jax.Array):
    # Without the barrier XLA keeps the weights of the forward pass.
    query, key, value, out = lax.optimization_barrier(saved)
    weights = _weights(query, key)  # [G H, N, N]
    along = (grad.astype(weights.dtype) * out.astype(weights.dtype)).sum(1)[:, :, None]
    scores = weights * (_scores(grad, value) - along) * query.shape[1] ** -0.5
    scores = scores.astype(query.dtype)
    return (
        jnp.einsum("gqk,gck->gcq", scores, key),
        jnp.einsum("gqk,gcq->gck", scores, query),
        jnp.einsum("gqk,gcq->gck", weights.astype(grad.dtype), grad),
    )


_weighted.defvjp(_weighted_forward, _weighted_backward)
