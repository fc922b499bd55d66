"""Which attention a program for NVIDIA GPUs has; it is lowered here, not run."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from hybridhash_jax.models.ops import attention

HEADS = 4


@pytest.fixture
def with_cudnn(monkeypatch):
    """As on a machine with cuDNN, of which JAX asks the version while it traces."""
    monkeypatch.setattr(attention, "has_cudnn", lambda: True)
    monkeypatch.setattr(
        "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91_900
    )


def lowered(shape, dtype=jnp.bfloat16):
    """The program of the gradient, for NVIDIA GPUs."""

    def loss(qkv):
        return attention.attend(qkv, HEADS).astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(loss)).trace(jax.ShapeDtypeStruct(shape, dtype))
    with jax.numpy_dtype_promotion("standard"):  # JAX lowers its own function so
        return traced.lower(lowering_platforms=("cuda",)).as_text()


def has_fused(program):
    return "__cudnn$fmha" in program


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("tokens", [16, 64, 196])
def test_cudnn_computes_it_in_16_bits(with_cudnn, tokens, dtype):
    program = lowered((8, tokens, 3 * HEADS * 32), dtype)
    assert "@__cudnn$fmhaSoftmax(" in program
    assert "@__cudnn$fmhaSoftmaxBackward(" in program


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 64, 3 * HEADS * 32), jnp.float32),
        ((8, 49, 3 * HEADS * 32), jnp.bfloat16),  # an odd number of tokens
        ((8, 4, 3 * HEADS * 32), jnp.bfloat16),
        ((8, 64, 3 * HEADS * 12), jnp.bfloat16),  # channels of a head
        ((8, 64, 3 * HEADS * 136), jnp.bfloat16),
    ],
)
def test_what_cudnn_does_not_take_is_computed_by_xla(with_cudnn, shape, dtype):
    assert not has_fused(lowered(shape, dtype))


def test_a_machine_without_cudnn_makes_programs_without_it():
    assert not has_fused(lowered((8, 64, 3 * HEADS * 32)))


def test_a_program_for_batches_of_any_size_has_none_and_can_be_exported(with_cudnn):
    (groups,) = export.symbolic_shape("b")
    qkv = jax.ShapeDtypeStruct((groups, 64, 3 * HEADS * 32), jnp.bfloat16)
    attend = jax.jit(lambda qkv: attention.attend(qkv, HEADS))
    exported = export.export(attend, platforms=("cpu", "cuda", "tpu"))(qkv)
    assert not has_fused(exported.mlir_module())
