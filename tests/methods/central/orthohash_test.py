"""OrthoHash: losses and gradients of its authors, for both margins."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.orthohash import OrthoHash, ortho_loss
from hybridhash_jax.methods.method import Examples
from tests.methods.central import golden

GOLDEN = golden.load("OrthoHash")


@golden.both_types
@pytest.mark.parametrize("margin_on", ["cos", "arc"])
@pytest.mark.parametrize("case", [(kind, number) for kind in "sm" for number in range(3)])
def test_loss_and_gradient_equal_the_authors_code(case, margin_on, dtype):
    kind, number = case
    name = f"{kind}_{margin_on}{number}"
    labels = jnp.asarray(GOLDEN[f"{name}_y"], jnp.float32)
    scale, margin = map(float, GOLDEN[f"{name}_sm"])

    def loss(v):
        return ortho_loss(
            v,
            labels,
            golden.whole(v),
            jnp.asarray(GOLDEN["codebook"], v.dtype),
            margin=margin,
            margin_on={"cos": "cosine", "arc": "angle"}[margin_on],
            scale=scale,
            quantization=float(GOLDEN[f"{name}_quan"]),
        )

    golden.check(
        loss, [GOLDEN[f"{name}_v"]], GOLDEN[f"{name}_loss"], [GOLDEN[f"{name}_grad"]], dtype
    )


def test_the_scale_is_the_root_of_the_code_length_unless_given():
    labels = jax.nn.one_hot(jnp.asarray([0, 2, 1]), 3)
    outputs = jax.random.normal(jax.random.key(1), (3, 25))
    examples = Examples(labels, labels, jnp.ones(3, bool), jnp.arange(3))
    codebook = OrthoHash().init_state(labels, 25, jax.random.key(0))
    assert set(np.unique(codebook)) == {-1, 1}
    losses = [
        float(OrthoHash(scale=scale).loss(outputs, examples, codebook, jnp.zeros(()))[0])
        for scale in (None, 5.0, 8.0)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_the_codebook_is_drawn_from_the_key_or_far_apart():
    labels = jnp.zeros((1, 30))
    first, second = (OrthoHash().init_state(labels, 32, jax.random.key(n)) for n in (0, 1))
    assert not np.array_equal(first, second)
    greedy = np.asarray(OrthoHash(codebook="greedy").init_state(labels, 32, jax.random.key(0)))
    apart = (32 - (greedy @ greedy.T - 64 * np.eye(30))) / 2
    assert apart.min() >= math.ceil(0.3 * 32)
