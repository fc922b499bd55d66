"""EfficientNet-Lite: its numbers with the published weights, its sizes, and what it refuses."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models, pretrained
from hybridhash_jax.models.efficientnet_lite import EfficientNetLite, Pointwise
from hybridhash_jax.models.nest import NestBackbone
from hybridhash_jax.parameters import num_trainable, parameter_paths
from hybridhash_jax.preprocess import pixels as preprocess
from tests.pretrained.pretrained_files import randomized

GOLDEN = Path(__file__).parents[1] / "golden"
# By the authors' program, with the 1000-way head and without running statistics.
PARAMETERS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
}
# One block a stage of widths 8 to 32: every kind of block, in a fraction of the time.
SMALL = {"width": 0.1, "depth": 0.3, "image_size": 32}
LOWEST_RATE = 0.5


def classifier(variant: str, **options: Any) -> Any:
    return models.create_network(
        variant, head="classifier", outputs=1000, rngs=nnx.Rngs(0), **options
    )


def abstract(variant: str, **options: Any) -> Any:
    return nnx.eval_shape(lambda: classifier(variant, **options))


@functools.cache
def small_backbone(**options: Any) -> Any:
    """With values that let the images through: few zeros and sixes."""
    model = randomized(lambda: EfficientNetLite(**(SMALL | options)), 0)
    for path, value in parameter_paths(model).items():
        if path.endswith(("scale", "running_variance")):
            value[...] = 0.5 + jnp.abs(value[...])
        elif path.endswith("kernel"):
            value[...] = 2 * value[...] * (value.shape[-1] / value.size) ** 0.5
    return model


@functools.cache
def small_nest() -> Any:
    sizes = {"image_size": 16, "patch_size": 2, "embed_dims": (8, 16), "num_heads": (2, 4)}
    return randomized(
        lambda: NestBackbone(
            **sizes, depths=(1, 2), drop_path_rate=0.5, rngs=nnx.Rngs(0), remat="none"
        ),
        0,
    )


def images(size: int, count: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(5), (count, size, size, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    ["efficientnet_lite0", pytest.param("efficientnet_lite2", marks=pytest.mark.thorough)],
)
def test_features_and_logits_are_those_of_the_program_that_trained_them(variant):
    golden = np.load(GOLDEN / f"{variant}.npz")
    model = randomized(lambda: classifier(variant), 0)
    pretrained.load_pretrained(model, variant)
    repeat = int(golden["repeat"])
    pixels = golden["images_small"].repeat(repeat, 1).repeat(repeat, 2)
    assert pixels.shape[1] == model.image_size
    backbone = model.backbone
    batch = preprocess.normalize(
        jnp.asarray(pixels), mean=backbone.pixel_mean, std=backbone.pixel_std
    )
    np.testing.assert_allclose(batch, (pixels - np.float32(127)) / 128, atol=1e-6)
    stages = jax.jit(lambda model, batch: model.stages(batch))(model, batch)
    found = {
        "stem_mean": stages["stem"].mean((1, 2)),
        "block0_mean": stages["block0"].mean((1, 2)),
        "features": stages["features"],
    }
    for name, own in found.items():
        largest = np.abs(golden[name]).max()
        np.testing.assert_allclose(own, golden[name], rtol=0, atol=1e-5 * largest, err_msg=name)
    np.testing.assert_allclose(stages["embeddings"], golden["logits"], rtol=0, atol=1e-4)
    assert np.abs(golden["logits"]).max() > 1


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters_are_as_many_as_the_authors_count(variant):
    model = abstract(variant)
    assert num_trainable(nnx.state(model, nnx.Param)) == PARAMETERS[variant]
    running = [path for path in parameter_paths(model) if "/running_" in path]
    assert len(running) == 2 * len([path for path in parameter_paths(model) if "scale" in path])


def test_the_smallest_variant_takes_0_4_billion_multiply_adds():
    # The authors' table says 407 million.
    assert models.forward_flops(abstract("efficientnet_lite0")) / 2e6 == pytest.approx(
        407, rel=0.06
    )


@pytest.mark.parametrize(
    "name", [pytest.param("efficientnet_lite", marks=pytest.mark.thorough), "nest"]
)
@pytest.mark.parametrize("key", [pytest.param(None, marks=pytest.mark.thorough), 7])
def test_behind_any_stage_the_rest_gives_what_the_whole_pass_gives(name, key):
    backbone = small_backbone(drop_path_rate=LOWEST_RATE) if name != "nest" else small_nest()
    key = None if key is None else jax.random.key(key)

    @functools.partial(jax.jit, static_argnames="after")
    def stages(backbone, x, after=None):
        return backbone.stages(x, key, after)

    whole = stages(backbone, images(backbone.image_size, 4))
    assert list(backbone.stage_paths)[-1] == "features"
    for after in backbone.stage_paths:
        found = stages(backbone, whole[after], after)
        assert after in found or after == "features"
        for stage, output in found.items():
            np.testing.assert_allclose(
                output, whole[stage], rtol=1e-4, atol=1e-4, err_msg=f"{stage} after {after}"
            )
        assert "features" in found


def test_every_stage_has_parameters_and_every_parameter_a_stage():
    backbone = small_backbone()
    stages = tuple(backbone.stage_paths.values())
    paths = list(parameter_paths(backbone))
    assert all(path.startswith(stages) for path in paths)
    assert all(any(path.startswith(stage) for path in paths) for stage in stages)


@pytest.mark.parametrize(("size", "last"), [(32, 1), (97, 4), (260, 9)])
def test_any_size_from_32_on_is_halved_five_times_rounded_up(size, last):
    backbone = nnx.eval_shape(lambda: EfficientNetLite(image_size=size))
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    out = jax.eval_shape(lambda backbone, x: backbone.stages(x), backbone, x)
    assert out["features"].shape == (2, 1280)
    assert out["block15"].shape == (2, last, last, 320)
    assert backbone.multiply_adds() > 0


def test_odd_sizes_compute():
    backbone = small_backbone(image_size=97)
    found = jax.jit(lambda b, x: b.stages(x)["features"])(backbone, images(97))
    assert np.isfinite(found).all() and found.dtype == jnp.float32
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_an_image_does_not_see_the_rest_of_its_batch_nor_do_its_keys():
    backbone, x = small_backbone(drop_path_rate=LOWEST_RATE), images(32, 4)
    keys = jax.random.split(jax.random.key(3), 4)
    features = jax.jit(lambda b, x, keys=None: b.stages(x, keys)["features"])
    np.testing.assert_allclose(features(backbone, x)[1:2], features(backbone, x[1:2]), atol=1e-4)
    dropped = features(backbone, x, keys)
    np.testing.assert_allclose(dropped[1:2], features(backbone, x[1:2], keys[1:2]), atol=1e-4)
    assert np.abs(dropped - features(backbone, x)).max() > 1e-2


def test_half_precision_gives_nearly_the_same_features_in_float32():
    x = images(32)
    run = jax.jit(lambda b, x: b.stages(x))
    found, wide = run(small_backbone(dtype=jnp.bfloat16), x), run(small_backbone(), x)
    assert found["block3"].dtype == jnp.bfloat16 and found["features"].dtype == jnp.float32
    difference = np.abs(found["features"] - wide["features"]).mean()
    assert 0 < difference < 0.03 * np.abs(wide["features"]).mean()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("dtype", "remat"), [(jnp.float32, "none"), (jnp.bfloat16, "layers"), (jnp.float32, "dots")]
)
def test_every_gradient_is_finite_whatever_is_computed_again(dtype, remat):
    backbone = small_backbone(dtype=dtype, remat=remat)

    def loss(backbone, x):
        return jnp.square(backbone.stages(x)["features"]).mean()

    gradients = jax.tree.leaves(jax.jit(nnx.grad(loss))(backbone, images(32)))
    assert all(np.isfinite(gradient).all() and np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forward_and_gradient_are_lowered_for_accelerators(platform, dtype):
    backbone = nnx.eval_shape(lambda: EfficientNetLite(**SMALL, dtype=dtype))

    def loss(backbone, x):
        return backbone.stages(x)["features"].sum()

    both = jax.jit(nnx.value_and_grad(loss))
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    lowered = both.trace(backbone, x).lower(lowering_platforms=(platform,)).as_text()
    # One depthwise convolution a block, forward and in both gradients, and the stem's.
    assert lowered.count("stablehlo.convolution") >= 3 * len(backbone.blocks) + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 31}, "image_size=31 is too small .*halves it five times; give 32 or more"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0 must be at least 0 and below 1"),
        ({"token_layout": "reference"}, "token_layout='reference': efficientnet_lite0 has no such"),
        (
            {"depths": (1, 2)},
            r"depths=\(1, 2\): .*it takes image_size, drop_path_rate",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_what_would(options, message):
    with pytest.raises(ValueError, match=message):
        abstract("efficientnet_lite0", **options)


def test_given_vectors_take_a_width_alone():
    with pytest.raises(
        ValueError, match=r"image_size=64: embeddings has no such option; of NesT.s it takes dtype"
    ):
        abstract("embeddings", width=3, image_size=64)
    with pytest.raises(ValueError, match="embeddings needs width=, how many numbers a vector has"):
        abstract("embeddings")
    # NesT's options at their defaults, which every configuration has, are no mistake.
    network = abstract("embeddings", width=3, token_layout="spatial", mlp_ratio=4.0)
    assert network.image_size == 0


def test_stochastic_depth_rises_linearly_over_the_blocks():
    backbone = nnx.eval_shape(lambda: EfficientNetLite(drop_path_rate=0.2))
    rates = [block.drop_path_rate for block in backbone.blocks]
    np.testing.assert_allclose(rates, 0.2 * np.arange(16) / 16)


def test_a_folded_layer_gives_the_same_and_is_folded_once():
    layer: Any = randomized(lambda: Pointwise((5, 3), dtype=jnp.float32), 2)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 5))
    before = np.asarray(layer(x))
    for _ in range(2):
        layer.fold()
        np.testing.assert_allclose(np.asarray(layer(x)), before, rtol=1e-5, atol=1e-5)
    layer.running_mean[...], layer.scale[...] = 7.0, 0.0  # which count no more
    np.testing.assert_allclose(np.asarray(layer(x)), before, rtol=1e-5, atol=1e-5)
    assert np.abs(before).max() > 0.1
