"""Rematerialisation: the same embeddings and gradients, in less memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.models.layers import Mlp
from hybridhash_jax.models.remat import call_in_turn, gathered_by

SIZES: dict[str, Any] = {
    "image_size": 8, "patch_size": 2, "embed_dims": (8, 16), "num_heads": (2, 4),
    "depths": (2, 1), "drop_path_rate": 0.4,
}  # fmt: skip


def images(count: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (count, 8, 8, 3))


def build_hashing(remat: str, **other: Any) -> models.Network:
    sizes = SIZES | other
    return models.create_network(outputs=8, token_heads=2, remat=remat, rngs=nnx.Rngs(0), **sizes)


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


def _apply(graphdef, params, x):
    return nnx.merge(graphdef, params)(x)


def test_a_classifier_computes_again_as_well():
    traces = {}
    for remat in ("none", "layers"):
        build = functools.partial(
            models.create_network, head="classifier", outputs=3, remat=remat, **SIZES
        )
        graphdef, params = nnx.split(nnx.eval_shape(lambda build=build: build(rngs=nnx.Rngs(0))))
        traces[remat] = str(jax.make_jaxpr(_apply, static_argnums=0)(graphdef, params, images(2)))
    assert "prevent_cse" in traces["layers"]
    assert "prevent_cse" not in traces["none"]


@pytest.mark.parametrize("remat", ["none", "layers"])
def test_equal_layers_are_traced_once(remat, monkeypatch):
    calls, whole = [], Mlp.__call__
    monkeypatch.setattr(Mlp, "__call__", lambda self, x: calls.append(x.shape) or whole(self, x))
    sizes: Any = {"depths": (4, 3), "embed_dims": (8, 24)}
    graphdef, params = nnx.split(nnx.eval_shape(lambda: build_hashing(remat, **sizes)))
    jax.clear_caches()
    jax.make_jaxpr(_apply, static_argnums=0)(graphdef, params, images(2))
    assert len(calls) == 2  # one a level
    jax.clear_caches()


def test_what_was_traced_without_gathering_is_not_taken_with_it():
    graphdef, params = nnx.split(nnx.eval_shape(lambda: build_hashing("none", depths=(3, 2))))

    def trace() -> None:
        jax.make_jaxpr(lambda params: nnx.merge(graphdef, params)(images(2)))(params)

    def gathered() -> int:
        """How often parameters are gathered in a trace."""
        calls = []
        with gathered_by(lambda params: calls.append(params) or params):
            trace()
        return len(calls)

    jax.clear_caches()
    alone = gathered()
    trace()
    assert gathered() == alone > 2


def test_a_layer_that_was_changed_is_traced_by_itself():
    network: Any = build_hashing("none", depths=(3, 1))
    before = network(images(2))
    network.backbone.levels[0].layers[1].mlp.gelu = "tanh"
    assert np.abs(network(images(2)) - before).max() > 0


def test_equal_layers_are_the_program_of_layers_one_by_one():
    graphdef, params = nnx.split(nnx.eval_shape(lambda: build_hashing("none", depths=(3, 1))))
    rates = (0.0, 0.1, 0.2)

    def layers_of(params) -> Any:
        network: Any = nnx.merge(graphdef, params)
        return network.backbone.levels[0].layers

    def in_turn(params, x, scales):
        return call_in_turn(layers_of(params), "none", x, scales, rates)

    def one_by_one(params, x, scales):
        for i, layer in enumerate(layers_of(params)):
            x = layer(x, scales[i] if rates[i] else None)
        return x

    def program(function):
        def squares(*inputs):
            return jnp.sum(function(*inputs) ** 2)

        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 1, 16, 8), (3, 2, 4))]
        return jax.jit(jax.grad(squares)).lower(params, *shapes).as_text()

    assert program(in_turn) == program(one_by_one)


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="remat='all' .*accepted: none, layers, dots"):
        build_hashing("all")
