"""Rematerialisation: the same embeddings and gradients, in less memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models

SIZES: dict[str, Any] = {
    "image_size": 8, "patch_size": 2, "embed_dims": (8, 16), "num_heads": (2, 4),
    "depths": (2, 1), "drop_path_rate": 0.4,
}  # fmt: skip


def images(count: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (count, 8, 8, 3))


def build_hashing(remat: str) -> models.Network:
    return models.create_network(outputs=8, token_heads=2, remat=remat, rngs=nnx.Rngs(0), **SIZES)


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[list[jax.Array], int]]:
    """For each choice: gradients and embeddings, and the bytes that computing them takes."""
    return {remat: measure(remat) for remat in ("none", "layers", "dots")}


def measure(remat: str) -> tuple[list[jax.Array], int]:
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: build_hashing(remat)))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: random.normal(0, 0.3, x.shape).astype(np.float32), shapes)

    def loss(params, images, key):
        embeddings = nnx.merge(graphdef, params)(images, key=key)
        return jnp.sum(jnp.sin(3 * embeddings)), embeddings

    inputs = params, images(16), jax.random.key(2)
    compiled: Any = jax.jit(jax.grad(loss, has_aux=True)).lower(*inputs).compile()
    found = jax.tree.leaves(compiled(*inputs))
    return found, compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.thorough
def test_the_same_embeddings_and_gradients_whatever_is_kept(measured):
    for remat in ("layers", "dots"):
        for one, other in zip(measured["none"][0], measured[remat][0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.thorough
def test_keeping_less_takes_less_memory(measured):
    found = {remat: size for remat, (_, size) in measured.items()}
    assert found["layers"] < found["dots"] < found["none"]
    assert found["layers"] < 0.8 * found["none"]


def _classify(graphdef, params, x):
    return nnx.merge(graphdef, params)(x)


def test_a_classifier_computes_again_as_well():
    traces = {}
    for remat in ("none", "layers"):
        build = functools.partial(
            models.create_network, head="classifier", outputs=3, remat=remat, **SIZES
        )
        graphdef, params = nnx.split(nnx.eval_shape(lambda build=build: build(rngs=nnx.Rngs(0))))
        traces[remat] = str(
            jax.make_jaxpr(_classify, static_argnums=0)(graphdef, params, images(2))
        )
    assert "prevent_cse" in traces["layers"]
    assert "prevent_cse" not in traces["none"]


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="remat='all' .*accepted: none, layers, dots"):
        build_hashing("all")
