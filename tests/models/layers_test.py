"""Attention, stochastic depth and the transformer layer against their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax.models.layers import Attention, LayerOptions, TransformerLayer


def randomized(module: Any, seed=0) -> Any:
    """Gives every parameter of a module random values."""
    state = nnx.state(module)
    rng = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32), state)
    nnx.update(module, drawn)
    return module


def make_attention(channels=12, heads=3):
    options = LayerOptions()
    module = Attention(channels, heads, qkv_bias=True, options=options, rngs=nnx.Rngs(0))
    return randomized(module)


def test_attention_equals_its_definition_written_out():
    module = make_attention()
    x = np.random.RandomState(0).randn(2, 3, 5, 12).astype(np.float32)
    qkv = x @ np.asarray(module.qkv.kernel[...]) + np.asarray(module.qkv.bias[...])
    query, key, value = np.split(qkv, 3, axis=-1)
    out = np.zeros_like(x)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)  # the usual order: h * head_dim + c
        scores = query[..., part] @ key[..., part].swapaxes(-1, -2) / 2.0
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        out[..., part] = weights @ value[..., part]
    expected = out @ np.asarray(module.proj.kernel[...]) + np.asarray(module.proj.bias[...])
    np.testing.assert_allclose(module(jnp.asarray(x)), expected, atol=1e-5)


def test_attention_stays_inside_its_group():
    module = make_attention()
    x = jax.random.normal(jax.random.key(1), (1, 3, 5, 12))
    grad = jax.grad(lambda x: module(x)[0, 1].sum())(x)
    touched = np.abs(grad).max((2, 3))[0] > 0
    np.testing.assert_array_equal(touched, [False, True, False])


def test_attention_does_not_depend_on_the_order_of_the_other_tokens():
    module = make_attention()
    x = jax.random.normal(jax.random.key(1), (1, 5, 12))
    order = jnp.asarray([3, 0, 4, 1, 2])
    np.testing.assert_allclose(module(x)[:, order], module(x[:, order]), atol=1e-5)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="12 channels cannot be split into 5 heads"):
        make_attention(12, 5)


def test_a_layer_with_both_branches_dropped_is_the_identity():
    module = TransformerLayer(8, 2, 4.0, options=LayerOptions(), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 1, 4, 8))
    y = randomized(module)(x, jnp.asarray([[0.0, 2.0], [0.0, 2.0]]))
    np.testing.assert_array_equal(y[0], x[0])
    assert np.abs(y[1] - x[1]).max() > 1e-3


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_a_layer_equals_its_definition_written_out(gelu):
    module = randomized(
        TransformerLayer(8, 2, 2.0, options=LayerOptions(gelu=gelu), rngs=nnx.Rngs(0))
    )
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 8))

    def norm(layer, x):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scale, bias = (p[...].reshape(1, 1, 1, 8) for p in (layer.scale, layer.bias))
        return (x - mean) / jnp.sqrt(var + 1e-6) * scale + bias

    y = x + module.attention(norm(module.norm1, x))
    hidden = norm(module.norm2, y) @ module.mlp.fc1.kernel[...]
    hidden = jax.nn.gelu(hidden + module.mlp.fc1.bias[...][None, None, None], gelu == "tanh")
    y = y + hidden @ module.mlp.fc2.kernel[...] + module.mlp.fc2.bias[...][None, None, None]
    np.testing.assert_allclose(module(x), y, atol=2e-5)
