"""Each formulation against the plain one that JAX differentiates: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hybridhash_jax.models.ops import formulations
from hybridhash_jax.models.ops.attention import attend, attend_channels_first
from hybridhash_jax.models.ops.convolution import convolve


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


NUM_HEADS = 6


def attention(qkv):
    return attend(qkv, NUM_HEADS)


def attention_on_tpu(qkv):
    return attend_channels_first(qkv, NUM_HEADS)


def plain_attention(qkv):
    query, key, value = (x.reshape(*x.shape[:2], NUM_HEADS, -1) for x in jnp.split(qkv, 3, axis=-1))
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key) / query.shape[-1] ** 0.5
    out = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores), value)
    return out.reshape(*out.shape[:2], -1)


def plain_norm(x, scale, bias):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-6) * scale[None, None] + bias[None, None]


def plain_convolution(x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def plain_max_pool(x):
    pads = ((0, 0), (1, 0), (0, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


FEW_SCORES, MANY_SCORES = 2.5 * normal(0, 2, 5, 72), 2.5 * normal(0, 1, 420, 72)
CASES = {
    "gelu": (formulations.gelu, lambda x: jax.nn.gelu(x, approximate=False), (normal(0, 7, 9),)),
    "attend": (attention, plain_attention, (FEW_SCORES,)),
    "attend_in_parts": (attention, plain_attention, (MANY_SCORES,)),
    "attend_on_tpu": (attention_on_tpu, plain_attention, (FEW_SCORES,)),
    "layer_norm": (
        lambda x, scale, bias: formulations.layer_norm(x, scale, bias, 1e-6),
        plain_norm,
        (3 + normal(0, 2, 5, 8), normal(1, 8), normal(2, 8)),
    ),
    "convolve_3x3": (
        convolve,
        plain_convolution,
        (normal(0, 2, 6, 4, 3), normal(1, 3, 3, 3, 5)),
    ),
    "convolve_3x3_wide": (
        convolve,
        plain_convolution,
        (normal(0, 2, 4, 6, 96), normal(1, 3, 3, 96, 192)),
    ),
    "convolve_3x3_odd": (
        convolve,
        plain_convolution,
        (normal(0, 2, 5, 4, 3), normal(1, 3, 3, 3, 5)),
    ),
    "convolve_1x3": (
        convolve,
        plain_convolution,
        (normal(0, 2, 3, 5, 3), normal(1, 1, 3, 3, 2)),
    ),
    "max_pool": (
        lambda x: formulations.max_pool(x, ((1, 0), (0, 1))),
        plain_max_pool,
        (normal(0, 2, 8, 6, 3),),
    ),
}


def value_and_gradients(function, operands):
    def both(*operands):
        out, pull = jax.vjp(function, *operands)
        return out, pull(jnp.cos(jnp.arange(out.size)).reshape(out.shape).astype(out.dtype))

    return jax.tree.map(lambda x: np.asarray(x, np.float32), jax.jit(both)(*operands))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_plain_formulation(case, dtype):
    formulation, plain, operands = CASES[case]
    rounded = [x.astype(dtype) for x in operands]
    expected = value_and_gradients(plain, [x.astype(jnp.float32) for x in rounded])
    found = value_and_gradients(formulation, rounded)
    tolerance = 1e-5 if dtype == jnp.float32 else 3e-2
    for own, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(own - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("formulation", [attention, attention_on_tpu])
def test_attention_of_large_scores_neither_overflows_nor_vanishes(formulation):
    qkv = FEW_SCORES.at[..., :24].multiply(300)
    found, gradients = value_and_gradients(formulation, (qkv,))
    # Scores of some thousands are rounded to about 1e-3, and so are their exponentials.
    np.testing.assert_allclose(found, plain_attention(qkv), atol=1e-2)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("case", CASES)
def test_what_is_lowered_for_an_accelerator_equals_it_too(case, monkeypatch):
    """The branch of other platforms, run on CPU."""
    formulation, plain, operands = CASES[case]

    def default_branch(*operands, default, **platforms):
        return default(*operands)

    monkeypatch.setattr(formulations.lax, "platform_dependent", default_branch)
    found = value_and_gradients(lambda *x: formulation(*x), operands)
    for own, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(value_and_gradients(plain, operands)), strict=True
    ):
        assert np.abs(own - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_the_first_of_equal_values_in_a_window_has_the_gradient():
    # Windows of rows 0-2 and 2-4 of a map of 5x3: each is all ones.
    gradient = jax.grad(lambda x: formulations.max_pool(x, ((0, 0), (0, 0))).sum())
    found = gradient(jnp.ones((1, 5, 3, 1)))[0, ..., 0]
    np.testing.assert_array_equal(found, [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_what_is_no_number_goes_through_the_max_pool():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    pads = ((1, 0), (1, 0))
    assert np.isnan(formulations.max_pool(x, pads)).any()
    assert np.isnan(jax.vjp(lambda x: formulations.max_pool(x, pads), x)[0]).any()


def test_attention_on_tpu_keeps_no_weights_for_the_backward_pass():
    qkv = normal(0, 2, 40, 72)
    kept = jax.eval_shape(lambda x: jax.vjp(attention_on_tpu, x)[1], qkv)
    assert all(x.shape[-2:] != (40, 40) for x in jax.tree.leaves(kept))
