"""JAX_ENABLE_X64 changes no number that is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax.models import create_network
from hybridhash_jax.models.stochastic_depth import branch_scales
from hybridhash_jax.preprocess import mixing, pixels, rand_augment

IMAGES = np.linspace(0, 255, 4 * 8 * 8 * 3, dtype=np.float32).reshape(4, 8, 8, 3)


def initial_parameters(key: jax.Array) -> list[np.ndarray]:
    del key
    network = create_network("tiny_32px", head="hybridhash", outputs=8, rngs=nnx.Rngs(3))
    return jax.tree.leaves(nnx.state(network, nnx.Param))


def drawn_by(key: jax.Array) -> dict:
    return {
        "parameters": initial_parameters,
        "stochastic depth": lambda key: branch_scales([0.1, 0.5], key, 4),
        "crops and flips": lambda key: pixels.augment(
            jnp.asarray(IMAGES.astype(np.uint8)), key, horizontal_flip=True, crop_padding=2
        ),
        "RandAugment": lambda key: rand_augment.rand_augment(jnp.asarray(IMAGES), key, 9.0),
        "erasing": lambda key: rand_augment.random_erasing(
            jnp.asarray(IMAGES / np.float32(255)), key, 0.5
        ),
        "mixing": lambda key: mixing.mix(
            jnp.asarray(IMAGES),
            jnp.eye(4, dtype=jnp.float32),
            jnp.ones(4, bool),
            key,
            mixing.Mixing(0.8, 1.0, 1.0),
        ),
    }


@pytest.mark.thorough
@pytest.mark.parametrize("name", drawn_by(jax.random.key(0)))
def test_the_same_seed_draws_the_same_numbers(name):
    draw = drawn_by(jax.random.key(0))[name]
    expected = jax.tree.map(np.asarray, draw(jax.random.key(0)))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = jax.tree.map(np.asarray, draw(jax.random.key(0)))
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-4)
