"""Batch norm by the batch: its numbers, its gradient, and who may use it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.models.batch_statistics import normalised_by_batch
from hybridhash_jax.models.efficientnet_lite import EfficientNetLite, Pointwise
from hybridhash_jax.models.ops.batch_norm import batch_norm

EPSILON = 1e-3


def inputs(rows: int = 12, channels: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (rows, channels)).astype(np.float32)
    scale, bias = rng.normal(size=(2, channels)).astype(np.float32)
    return x, scale, bias


def reference(x, scale, bias):
    """The same by the definition, for JAX to differentiate."""
    mean, variance = x.mean(0), x.var(0)
    return (x - mean[None]) / jnp.sqrt(variance + EPSILON)[None] * scale[None] + bias[None]


def test_it_normalises_by_mean_and_variance_of_the_rows():
    x, scale, bias = inputs()
    out, mean, variance = batch_norm(jnp.asarray(x), scale, bias, EPSILON)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-5)
    np.testing.assert_allclose(out, reference(x, scale, bias), rtol=1e-4, atol=1e-5)


def test_its_gradient_is_that_of_the_definition_through_the_statistics():
    arrays = inputs()
    weights = inputs(seed=1)[0]

    def loss(function):
        return lambda *a: jnp.sum(jnp.sin(function(*a)) * weights)

    found = jax.grad(
        loss(lambda x, scale, bias: batch_norm(x, scale, bias, EPSILON)[0]), argnums=(0, 1, 2)
    )(*arrays)
    expected = jax.grad(loss(reference), argnums=(0, 1, 2))(*arrays)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    x, scale, bias = arrays  # with the statistics held fixed it would be another one
    mean, factor = x.mean(0), scale / np.sqrt(x.var(0) + EPSILON)
    held = jax.grad(loss(lambda x: (x - mean[None]) * factor[None] + bias[None]))(x)
    assert np.abs(held - found[0]).max() > 0.1


def test_statistics_of_half_precision_are_float32():
    x, scale, bias = inputs(4096)
    out, mean, variance = batch_norm(jnp.asarray(x, jnp.bfloat16), scale, bias, EPSILON)
    assert (out.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-3)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-2)


def make_pointwise() -> Pointwise:
    module, rng = Pointwise((3, 4), dtype=jnp.float32), np.random.default_rng(2)
    module.kernel[...] = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    return module


def test_a_module_uses_the_batch_in_the_context_alone():
    module, x = make_pointwise(), jnp.asarray(inputs(50, 3)[0]).reshape(2, 5, 5, 3)
    before = module(x)
    with normalised_by_batch({"a/b": module}) as statistics:
        assert statistics == {}
        inside = np.asarray(module(x))
        other = make_pointwise()(x)  # not one of those that were named
    rows = np.asarray(x).reshape(-1, 3) @ np.asarray(module.kernel[...])
    np.testing.assert_allclose(statistics["a/b/running_mean"], rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics["a/b/running_variance"], rows.var(0), rtol=1e-4)
    np.testing.assert_allclose(inside.mean((0, 1, 2)), np.zeros(4), atol=1e-5)
    np.testing.assert_array_equal(other, before)
    np.testing.assert_array_equal(module(x), before)


def test_what_an_image_gives_in_evaluation_does_not_depend_on_its_batch():
    network = EfficientNetLite(image_size=32, width=0.25, depth=0.3, batch_norm="batch")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32, 32, 3)), jnp.float32)
    apply = nnx.jit(lambda network, x: network.stages(x)["block1"])
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda p: jnp.asarray(rng.uniform(0.1, 1, p.shape), jnp.float32), nnx.state(network)
    )
    nnx.update(network, params)
    together, alone = apply(network, images), apply(network, images[:1])
    assert np.abs(together).max() > 0
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5)


@pytest.mark.parametrize("variant", ["tiny_32px", "embeddings"])
def test_networks_without_batch_norm_refuse_it(variant):
    def create(batch_norm):
        options = {} if variant == "tiny_32px" else {"width": 6}
        own = {"outputs": 8, "batch_norm": batch_norm, **options}
        return nnx.eval_shape(lambda: models.create_network(variant, rngs=nnx.Rngs(0), **own))

    create("frozen")
    with pytest.raises(ValueError, match=f"batch_norm='batch': {variant} .*efficientnet_lite0"):
        create("batch")


def test_values_and_remat_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="accumulation_steps, or batch_norm='frozen'"):
        EfficientNetLite(image_size=32, batch_norm="batch", remat="layers")
    with pytest.raises(ValueError, match="frozen, batch"):
        EfficientNetLite(image_size=32, batch_norm="live")
