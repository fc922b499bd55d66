"""Depthwise convolutions, ReLU6 and sums over rows, against what JAX has and numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hybridhash_jax.models.ops import depthwise as ops
from hybridhash_jax.models.ops import sums
from hybridhash_jax.models.ops.depthwise import depthwise, relu6, same_padding
from hybridhash_jax.models.ops.sums import add_bias, sum_rows

# Heights and widths: even, odd, and smaller than the kernel.
SIZES = [(8, 6), (7, 9), (6, 7), (2, 1), (1, 1), (3, 4)]


def grouped(x, kernel, stride):
    """JAX's own, whose SAME is TensorFlow's."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def default_branch(*operands, default, **platforms):
    return default(*operands)


def value_and_gradients(function, *operands):
    def both(*operands):
        out, pull = jax.vjp(function, *operands)
        weights = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
        return out, *pull(weights.astype(out.dtype))

    found = jax.jit(both)(*operands)
    for own, operand in zip(found[1:], operands, strict=True):
        assert own.dtype == operand.dtype and own.shape == operand.shape
    return [np.asarray(x, np.float32) for x in found]


def operands_of(size, side, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, *size, 3)).astype(dtype)
    return x, jax.random.normal(keys[1], (side, side, 3)).astype(dtype)


@pytest.mark.parametrize("branch", ["cpu", "default"])
@pytest.mark.parametrize(
    ("side", "stride"),
    [
        (3, 2),
        (5, 1),
        pytest.param(3, 1, marks=pytest.mark.thorough),
        pytest.param(5, 2, marks=pytest.mark.thorough),
    ],
)
def test_values_and_both_gradients_are_those_of_a_grouped_convolution(
    branch, side, stride, monkeypatch
):
    if branch == "default":
        monkeypatch.setattr(ops.lax, "platform_dependent", default_branch)
    for size in SIZES:
        operands = operands_of(size, side)
        found = value_and_gradients(lambda x, k: depthwise(x, k, stride), *operands)
        expected = value_and_gradients(lambda x, k: grouped(x, k, stride), *operands)
        for own, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(own, theirs, atol=1e-5, err_msg=f"{size}")


@pytest.mark.parametrize("stride", [1, 2])
def test_in_half_precision_it_is_nearly_the_same(stride):
    x, kernel = operands_of((9, 8), 5, jnp.bfloat16)
    found = value_and_gradients(lambda x, k: depthwise(x, k, stride), x, kernel)
    wide = x.astype(jnp.float32), kernel.astype(jnp.float32)
    expected = value_and_gradients(lambda x, k: grouped(x, k, stride), *wide)
    for own, theirs in zip(found, expected, strict=True):
        assert np.abs(own - theirs).max() <= 3e-2 * np.abs(theirs).max()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        # ceil(size / stride) outputs reach over (outputs - 1) * stride + kernel values; what is
        # missing is shared, and an odd one comes after.
        (224, 3, 2, (0, 1)),  # 112 reach over 225
        (97, 3, 2, (1, 1)),  # 49 over 99
        (28, 5, 2, (1, 2)),  # 14 over 31
        (33, 5, 2, (2, 2)),  # 17 over 37
        (7, 5, 1, (2, 2)),
        (8, 3, 1, (1, 1)),
        (1, 5, 2, (2, 2)),
        (2, 5, 2, (1, 2)),  # 1 over 5
        (4, 1, 2, (0, 0)),  # 2 over 3: nothing is missing
    ],
)
def test_padding_is_tensorflow_s(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_convolve_in_groups(platform):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 9, 9, 16), (5, 5, 16))]

    def both(x, kernel):
        out, pull = jax.vjp(lambda x, k: depthwise(x, k, 2), x, kernel)
        return pull(out)

    lowered = jax.jit(both).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert lowered.count("stablehlo.convolution") == 3
    on_cpu = jax.jit(both).trace(*shapes).lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" not in on_cpu


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu6_has_no_gradient_at_either_end(dtype):
    x = jnp.asarray([-1.0, 0.0, 0.5, 5.5, 6.0, 7.0], dtype)
    np.testing.assert_array_equal(relu6(x).astype(jnp.float32), [0, 0, 0.5, 5.5, 6, 6])
    assert relu6(x).dtype == dtype
    gradient = jax.grad(lambda x: (relu6(x) * 2).sum().astype(jnp.float32))(x)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient.astype(jnp.float32), [0, 0, 2, 2, 0, 0])


@pytest.mark.parametrize("branch", ["cpu", "default"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_are_summed_in_float32(dtype, branch, monkeypatch):
    if branch == "default":
        monkeypatch.setattr(sums.lax, "platform_dependent", default_branch)
    # In bfloat16 alone, ones would stop counting at 256.
    found = sum_rows(jnp.ones((1000, 3), dtype) * jnp.asarray([[1, 2, -3]], dtype))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [1000, 2000, -3000])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_bias_is_added_in_the_type_of_the_rows_and_has_the_sum_as_gradient(dtype):
    x, bias = jnp.zeros((600, 2), dtype), jnp.asarray([0.5, -2.0])
    out, pull = jax.vjp(add_bias, x, bias)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[7].astype(jnp.float32), [0.5, -2])
    of_rows, of_bias = pull(jnp.ones_like(out))
    assert of_rows.dtype == dtype and of_bias.dtype == jnp.float32
    np.testing.assert_array_equal(of_bias, [600, 600])
    np.testing.assert_array_equal(of_rows.astype(jnp.float32), np.ones((600, 2)))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_reduce(platform):
    rows = jax.ShapeDtypeStruct((64, 8), jnp.float32)
    lowered = jax.jit(sum_rows).trace(rows).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.reduce" in lowered and "dot_general" not in lowered
