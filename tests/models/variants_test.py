"""Named variants: their parameters counted, their FLOPs, and overriding them."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models

PARAMETERS_AT_64_BITS = {
    "paper": 55_586_240,
    "nest_base": 71_348_160,
    "nest_small": 40_301_536,
    "nest_tiny": 19_007_968,
    "small_32px": 15_099_904,
    "tiny_32px": 876_192,
}


@functools.cache
def abstract(variant, **overrides) -> Any:
    return nnx.eval_shape(
        lambda: models.create_network(variant, outputs=64, rngs=nnx.Rngs(0), **overrides)
    )


def count(model):
    return sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize(("variant", "parameters"), PARAMETERS_AT_64_BITS.items())
def test_parameter_counts_are_pinned(variant, parameters):
    assert count(abstract(variant)) == parameters


def test_every_variant_can_be_built():
    for variant in models.VARIANTS:
        width = {"width": 8} if variant == "embeddings" else {}
        assert count(abstract(variant, **width)) > 0


def test_the_paper_network_takes_30_gflop_an_image():
    assert models.forward_flops(abstract("paper")) / 1e9 == pytest.approx(29.93, abs=0.01)


def test_flops_counted_from_the_architecture_agree_with_the_compiler():
    model = abstract("demo_16px")
    graphdef, params = nnx.split(model)
    size = model.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    compiled = jax.jit(lambda p, x: nnx.merge(graphdef, p)(x)).lower(params, images).compile()
    analysis = compiled.cost_analysis()
    assert analysis is not None
    counted = models.forward_flops(model)
    # The compiler also counts normalisation, softmax and pooling, but leaves out the products of a
    # convolution with padding, on these small maps up to a quarter of it.
    assert 0.9 * counted < analysis["flops"] < 1.2 * counted


def test_overrides_replace_and_none_keeps_the_variants_value():
    model = abstract("tiny_32px", depths=(1, 1, 1), embed_dims=None)
    assert [len(level.layers) for level in model.backbone.levels] == [1, 1, 1]
    assert model.backbone.patch_embed.kernel.shape[-1] == 32


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="accepted: paper, nest_base"):
        models.create_network("resnet", outputs=8, rngs=nnx.Rngs(0))
