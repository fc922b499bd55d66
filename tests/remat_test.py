"""Rematerialisation: the same embeddings and gradients, in less memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.models.remat import REMAT

SIZES: dict[str, Any] = {
    "image_size": 8, "patch_size": 2, "embed_dims": (8, 16), "num_heads": (2, 4),
    "depths": (1, 2), "token_heads": 2, "drop_path_rate": 0.4,
}  # fmt: skip


def make_gradients(remat: str, **overrides: Any):
    """A jitted function of parameters, images and a key, giving embeddings and gradients."""
    build = functools.partial(models.HybridHash, bits=8, remat=remat, **SIZES | overrides)
    graphdef, params = nnx.split(build(rngs=nnx.Rngs(0)))

    def loss(params, images, key):
        embeddings = nnx.merge(graphdef, params)(images, key=key)
        return jnp.sum(jnp.sin(3 * embeddings)), embeddings

    return jax.jit(jax.grad(loss, has_aux=True)), params


def images(count: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (count, 8, 8, 3))


def test_the_same_embeddings_and_gradients_whatever_is_kept():
    inputs, expected = (images(4), jax.random.key(2)), None
    for remat in REMAT:
        differentiate, params = make_gradients(remat)
        found = jax.tree.leaves(differentiate(params, *inputs))
        expected = found if expected is None else expected
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_keeping_less_takes_less_memory():
    found = {}
    for remat in REMAT:
        differentiate, params = make_gradients(remat, embed_dims=(16,), num_heads=(2,), depths=(6,))
        compiled: Any = differentiate.lower(params, images(64), jax.random.key(2)).compile()
        found[remat] = compiled.memory_analysis().temp_size_in_bytes
    assert found["layers"] < found["dots"] < found["none"]
    assert found["layers"] < 0.5 * found["none"]


def _classify(graphdef, params, x):
    return nnx.merge(graphdef, params)(x)


def test_a_classifier_computes_again_as_well():
    sizes = {name: value for name, value in SIZES.items() if name != "token_heads"}
    traces = {}
    for remat in ("none", "layers"):
        model = models.NestClassifier(3, remat=remat, rngs=nnx.Rngs(0), **sizes)
        graphdef, params = nnx.split(model)
        traces[remat] = str(
            jax.make_jaxpr(_classify, static_argnums=0)(graphdef, params, images(2))
        )
    assert "prevent_cse" in traces["layers"]
    assert "prevent_cse" not in traces["none"]


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="remat='all' is unknown; accepted: none, layers, dots"):
        make_gradients("all")
