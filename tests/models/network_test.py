"""The whole network: sizes, options, determinism, locality, and what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models

SMALL: dict[str, Any] = {
    "image_size": 16, "patch_size": 2, "embed_dims": (16, 24), "num_heads": (2, 3),
    "depths": (1, 1), "outputs": 12,
}  # fmt: skip


def build(**overrides) -> Any:
    return models.create_network(rngs=nnx.Rngs(0), **(SMALL | overrides))


def quick(**overrides) -> Any:
    """The same with other weights, which cost no compilation."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: build(**overrides)))
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape), jnp.float32), state)
    return nnx.merge(graphdef, drawn)


@jax.jit
def embed(model, x, key=None):
    return model(x, key=key)


def images(count=2, size=16):
    return jax.random.normal(jax.random.key(5), (count, size, size, 3))


def test_embeddings_are_float32_inside_minus_one_to_one():
    embeddings = embed(quick(dtype=jnp.bfloat16), images())
    assert embeddings.shape == (2, 12)
    assert embeddings.dtype == jnp.float32
    assert np.abs(embeddings).max() < 1


def test_it_is_deterministic_unless_a_key_is_given():
    model = quick(drop_path_rate=0.5)
    x = images(8)
    np.testing.assert_array_equal(embed(model, x), embed(model, x))
    dropped = embed(model, x, jax.random.key(0))
    assert np.abs(dropped - embed(model, x)).max() > 1e-4
    np.testing.assert_array_equal(dropped, embed(model, x, jax.random.key(0)))


def test_an_image_does_not_see_the_rest_of_its_batch():
    model, x = quick(), images(4)
    np.testing.assert_allclose(embed(model, x)[1:2], embed(model, x[1:2]), atol=1e-6)


def test_without_interaction_a_level_is_local_to_blocks():
    """On level 0 nothing reaches another block: the gradient of a block stays inside it."""
    model = quick(interaction="none")
    touching = jax.jit(jax.grad(lambda x: model.stages(x)["level0"][0, :4, :4].sum()))
    grad = touching(images(1))
    touched = np.abs(grad[0]).max(-1) > 0
    assert touched[:8, :8].all()
    assert not touched[8:].any()
    assert not touched[:, 8:].any()


def test_the_interaction_module_reaches_the_whole_image():
    for interaction, reaches in (("full", True), ("none", False)):
        model = quick(interaction=interaction)
        corner = jax.grad(lambda x, m=model: m.stages(x)["interaction1"][0, 0, 0].sum())
        grad = jax.jit(corner)(images(1))
        assert bool(np.abs(grad[0, 12:, 12:]).max() > 0) == reaches


OPTIONS = [
    {"token_layout": "reference"},
    {"token_pooling": "half_block"},
    {"interaction": "none"},
    {"pool_padding": "same"},
    {"gelu": "tanh"},
    {"initializer": "normal"},
    {"mlp_ratio": 2.0},
    {"token_heads": 4},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_changes_the_function(option):
    make = build if "initializer" in option else quick
    changed = np.asarray(embed(make(**option), images()))
    assert np.isfinite(changed).all()
    assert np.abs(changed - embed(make(), images())).max() > 1e-7


@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": 32, "patch_size": 1, "embed_dims": (8, 16, 24, 32),
         "num_heads": (1, 2, 3, 4), "depths": (1, 1, 1, 1)},
        {"image_size": 24, "patch_size": 3, "embed_dims": (16,), "num_heads": (2,), "depths": (1,)},
        {"image_size": 12, "patch_size": 2},
        {"image_size": 20, "patch_size": 2, "embed_dims": (16, 24)},
    ],
    ids=str,
)  # fmt: skip
def test_any_size_that_fits_runs(sizes):
    x = images(1, sizes["image_size"])
    embeddings = jax.eval_shape(lambda x: build(**sizes)(x), x)
    assert embeddings.shape == (1, 12)


def test_four_levels_have_blocks_of_the_side_nest_gives_them():
    sizes = {
        "image_size": 32, "patch_size": 1, "embed_dims": (8, 16, 24, 32),
        "num_heads": (1, 2, 3, 4), "depths": (1, 1, 1, 1),
    }  # fmt: skip
    model = nnx.eval_shape(lambda: build(**sizes))
    shapes = [level.position_embedding.shape for level in model.backbone.levels]
    assert shapes == [(1, 64, 16, 8), (1, 16, 16, 16), (1, 4, 16, 24), (1, 1, 16, 32)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": 18}, "multiple of 4, for example 16 or 20"),
        ({"image_size": 12, "token_pooling": "half_block"}, "multiple of 8, for example 8 or 16"),
        ({"image_size": 2}, "multiple of 4, for example 4 or 8"),
        ({"depths": (1,)}, "must name the same levels"),
        ({"depths": (1, 0)}, "at least 1"),
        ({"num_heads": (3, 3)}, "16 channels cannot be split into 3 heads"),
        ({"token_heads": 5}, "token_heads=5 does not divide the width 24"),
        ({"outputs": 0}, "at least 1 bit"),
        ({"drop_path_rate": 1.0}, "below 1"),
        ({"gelu": "fast"}, "accepted: exact, tanh"),
        ({"token_layout": "rows"}, "accepted: spatial, reference"),
        ({"token_pooling": "all"}, "accepted: block, half_block"),
        ({"interaction": "some"}, "accepted: full, none"),
        ({"pool_padding": "valid"}, "accepted: symmetric, same"),
        ({"initializer": "zeros"}, "accepted: fan_in, normal"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_what_would(overrides, message):
    with pytest.raises(ValueError, match=message):
        build(**overrides)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"takes \[B, 16, 16, 3\]"):
        quick()(images(size=18))


def test_stochastic_depth_rises_linearly_over_the_layers():
    model = nnx.eval_shape(lambda: build(depths=(2, 3), drop_path_rate=0.5))
    rates = [rate for level in model.backbone.levels for rate in level.drop_path_rates]
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, 0.375, 0.5])
