"""Pooling, upsampling and token layouts against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax.models.interaction import (
    TokenAttention,
    TokenOptions,
    average_pool,
    max_pool,
    upsample,
)
from hybridhash_jax.models.layers import LayerOptions


def pooled_by_hand(x, before):
    """3x3 windows of stride 2 that start `before` rows and columns outside."""
    height, width = x.shape[1:3]
    out = np.full((x.shape[0], -(-height // 2), -(-width // 2), x.shape[3]), -np.inf)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            rows = slice(max(2 * i - before, 0), 2 * i - before + 3)
            columns = slice(max(2 * j - before, 0), 2 * j - before + 3)
            out[:, i, j] = x[:, rows, columns].max((1, 2))
    return out


@pytest.mark.parametrize(
    ("padding", "side", "before"),
    [("symmetric", 8, 1), ("same", 8, 0), ("symmetric", 7, 1), ("same", 7, 1), ("same", 2, 0)],
)
def test_max_pool_takes_the_windows_of_its_padding(padding, side, before):
    x = np.random.RandomState(0).randn(2, side, side, 3)
    np.testing.assert_array_equal(
        max_pool(jnp.asarray(x, jnp.float32), padding), pooled_by_hand(x.astype(np.float32), before)
    )


def test_average_pool_takes_means_of_squares():
    x = np.random.RandomState(0).randn(2, 6, 9, 4).astype(np.float32)
    found = average_pool(jnp.asarray(x), 3)
    np.testing.assert_allclose(found[:, 1, 2], x[:, 3:6, 6:9].mean((1, 2)), atol=1e-6)
    assert found.shape == (2, 2, 3, 4)


def test_upsampling_is_bilinear_with_half_pixel_centres_and_clamped_edges():
    x = np.asarray([1.0, 3.0, 7.0], np.float32).reshape(1, 3, 1, 1).repeat(3, axis=2)
    found = np.asarray(upsample(jnp.asarray(x), 4))[0, :, 5, 0]
    centres = (np.arange(12) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(found, np.interp(centres, [0, 1, 2], [1, 3, 7]), atol=1e-6)


def make_tokens(layout, grid=2, channels=8):
    tokens = TokenOptions(heads=2, layout=layout, pool_kernel=1)
    module = TokenAttention(channels, grid, tokens, options=LayerOptions(), rngs=nnx.Rngs(0))
    kernels = jax.random.normal(jax.random.key(0), (channels, 4 * channels))
    module.attention.qkv.kernel[...] = kernels[:, : 3 * channels]
    module.attention.proj.kernel[...] = kernels[:, 3 * channels :]
    return module


def test_reference_layout_reads_channel_first_memory_as_tokens():
    x = np.random.RandomState(0).randn(1, 2, 2, 8).astype(np.float32)
    memory = x.transpose(0, 3, 1, 2).ravel()  # [C, h, w]
    tokens = jnp.asarray(memory.reshape(1, 4, 8))
    module = make_tokens("reference")
    expected = module.attention(tokens).reshape(1, 2, 2, 8)
    np.testing.assert_allclose(module(jnp.asarray(x)), expected, atol=1e-6)
    assert np.abs(module(jnp.asarray(x)) - make_tokens("spatial")(jnp.asarray(x))).max() > 1e-3


def test_with_one_token_the_layouts_are_equal():
    x = jax.random.normal(jax.random.key(1), (2, 1, 1, 8))
    np.testing.assert_allclose(
        make_tokens("reference", grid=1)(x), make_tokens("spatial", grid=1)(x), atol=1e-6
    )
