"""Heads on a backbone that has nothing of NesT: the contract between the two."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.models.batch_statistics import normalised_by_batch
from hybridhash_jax.models.choices import check_choices
from hybridhash_jax.models.heads import (
    HEADS,
    ClassifierHead,
    FeatureNorm,
    HashHead,
    HiddenHead,
    HiddenTanhHead,
    LinearHead,
    TanhHead,
    create_head,
)
from hybridhash_jax.models.layers import GELUS, LayerOptions
from hybridhash_jax.models.remat import call


class Means(nnx.Module):
    """Three features an image, as a map or as a vector; without parameters."""

    width, options, image_size = 3, LayerOptions(), 4
    pixel_mean, pixel_std = (0.0,) * 3, (1.0,) * 3
    stage_paths: ClassVar[dict[str, str]] = {}

    def __init__(self, grid: int):
        self.grid = grid

    def stages(self, x, key=None, after=None):
        del key, after
        means = x.mean((1, 2))
        if self.grid == 1:
            return {"features": means}
        return {"features": jnp.broadcast_to(means[:, None, None], (len(x), 2, 2, 3))}

    def multiply_adds(self):
        return 7


def network(head: str, grid: int) -> Any:
    backbone: Any = Means(grid)
    found: Any = models.Network(backbone, HEADS[head](backbone, 5, rngs=nnx.Rngs(0)))
    linear = found.own_head
    linear.kernel[...] = jnp.arange(15.0).reshape(3, 5)
    linear.bias[...] = jnp.ones(5)
    return found


@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("head", ["linear", "tanh", "classifier"])
def test_a_linear_head_takes_maps_and_vectors(head, grid):
    images = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    expected = np.asarray(images.mean((1, 2))) @ np.arange(15.0).reshape(3, 5) + 1
    if head == "tanh":
        expected = np.tanh(expected)
    found = network(head, grid)(images)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_operations_are_those_of_backbone_and_head():
    assert models.forward_flops(network("linear", 2)) == 2 * (7 + 15)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head='mlp' is unknown; accepted: hybridhash, linear"):
        models.create_network("demo_16px", head="mlp", outputs=4, rngs=nnx.Rngs(0))


def test_what_can_be_chosen_is_there():
    choices = {option.name: option.choices for option in models.OPTIONS}
    assert choices["gelu"] == tuple(GELUS)
    for remat in choices["remat"]:
        assert call(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), remat, jnp.ones((1, 2))).shape == (1, 2)
    with pytest.raises(ValueError, match="gelu='fast' .*accepted: exact, tanh"):
        check_choices(gelu="fast")


def backbone_of(grid: int) -> Any:
    return Means(grid)


def hidden_network(head: str = "linear", grid: int = 1, **options: Any) -> Any:
    backbone = backbone_of(grid)
    own: Any = create_head(backbone, head, "hidden", 5, rngs=nnx.Rngs(0), hidden=64, **options)
    found: Any = models.Network(backbone, own)
    for seed, layer in enumerate((own.fc1, own.fc2)):
        layer.kernel[...] = jax.random.normal(jax.random.key(seed), layer.kernel.shape)
    return found


@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("head", ["linear", "tanh"])
def test_a_hidden_head_is_a_layer_a_relu_and_a_layer(head, grid):
    network = hidden_network(head, grid, dropout=0.5)
    images = 0.3 * jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    layers = network.own_head.fc1, network.own_head.fc2
    kernels, biases = zip(
        *[map(np.asarray, (x.kernel[...], x.bias[...])) for x in layers], strict=True
    )
    hidden = np.maximum(np.asarray(images.mean((1, 2))) @ kernels[0] + biases[0], 0)
    expected = hidden @ kernels[1] + biases[1]
    found = network(images)
    assert found.dtype == jnp.float32
    expected = np.tanh(expected) if head == "tanh" else expected
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert models.forward_flops(network) == 2 * (7 + 3 * 64 + 64 * 5)


def test_dropout_is_there_with_a_key_alone_and_by_each_image_s_own():
    network = hidden_network(dropout=0.5)
    images = jax.random.normal(jax.random.key(0), (4, 4, 4, 3))
    keys = jax.random.split(jax.random.key(1), 4)
    without, dropped = network(images), network(images, key=keys)
    assert np.abs(dropped - without).max() > 1e-2
    np.testing.assert_array_equal(dropped, network(images, key=keys))
    # An image's keys and neighbours may come in any order.
    order = jnp.asarray([2, 0, 3])
    np.testing.assert_allclose(
        network(images[order], key=keys[order]), dropped[order], rtol=1e-5, atol=1e-5
    )
    # The same image with another key drops other units.
    alike = network(jnp.broadcast_to(images[:1], images.shape), key=keys)
    assert len({float(x) for x in alike[:, 0]}) == 4
    assert np.abs(network(images, key=jax.random.key(1)) - without).max() > 1e-2
    plain = hidden_network(dropout=0.0)
    np.testing.assert_array_equal(plain(images, key=keys), plain(images))


def test_dropout_keeps_the_mean_and_drops_the_share_it_should():
    network = hidden_network(dropout=0.25)
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 1, 1, 3)), (4000, 1, 1, 3))
    found = network(x, key=jax.random.key(1))
    np.testing.assert_allclose(found.mean(0), network(x[:1])[0], atol=0.05 * float(found.std()))
    layer: Any = network.own_head
    layer.fc1.kernel[...] = jnp.zeros((3, 64))
    layer.fc1.bias[...] = jnp.ones(64)
    layer.fc2.kernel[...] = jnp.ones((64, 5))
    counted = network(x, key=jax.random.key(1))[:, 0] * 0.75  # of 64, those that were kept
    np.testing.assert_allclose(counted.mean() / 64, 0.75, atol=0.01)


@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"dropout": -0.1}, {"hidden": 0}], ids=str)
def test_a_hidden_layer_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="at least 1 unit, and dropout is at least 0 and below 1"):
        create_head(
            backbone_of(1), "linear", "hidden", 5, rngs=nnx.Rngs(0), **({"hidden": 8} | options)
        )


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("hybridhash", None, TanhHead),  # these features are no tokens
        ("hybridhash", "linear", TanhHead),
        ("hybridhash", "hidden", HiddenTanhHead),
        ("tanh", None, TanhHead),
        ("tanh", "hidden", HiddenTanhHead),
        ("linear", None, LinearHead),
        ("linear", "linear", LinearHead),
        ("linear", "hidden", HiddenHead),
        ("classifier", None, ClassifierHead),
    ],
)
def test_the_head_is_the_method_s_own_or_the_kind_with_the_same_outputs(name, kind, expected):
    assert type(create_head(backbone_of(1), name, kind, 5, rngs=nnx.Rngs(0))) is expected


@pytest.mark.parametrize(
    ("head", "kind", "expected"),
    [
        ("hybridhash", None, HashHead),
        ("hybridhash", "linear", TanhHead),
        ("hybridhash", "hidden", HiddenTanhHead),
        ("linear", "hidden", HiddenHead),
        ("classifier", "hidden", ClassifierHead),
    ],
)
def test_of_a_map_of_tokens_hybridhash_has_its_own(head, kind, expected):
    network: Any = nnx.eval_shape(
        lambda: models.create_network(
            "demo_16px", head=head, head_kind=kind, head_width=32, outputs=4, rngs=nnx.Rngs(0)
        )
    )
    assert type(network.own_head) is expected
    assert not network.has_feature_norm  # of maps nothing is normalised
    if kind == "hidden" and head != "classifier":
        assert network.own_head.fc1.kernel.shape == (96, 32)


def test_features_are_centred_and_scaled_by_one_number():
    norm = FeatureNorm(2)
    x = jnp.asarray([[1.0, 2.0], [3.0, -2.0]])
    np.testing.assert_array_equal(norm(x), x)  # until it is fitted
    norm.mean[...], norm.deviation[...] = jnp.asarray([1.0, -2.0]), jnp.asarray(2.0)
    np.testing.assert_array_equal(norm(x), [[0, 2], [1, 0]])
    np.testing.assert_array_equal(norm(x[:, None, None])[:, 0, 0], norm(x))


@pytest.mark.parametrize(
    ("head", "there"), [("linear", True), ("hybridhash", True), ("classifier", False)]
)
def test_codes_of_vectors_are_made_of_normalised_ones(head, there):
    network: Any = models.create_network(
        "embeddings", width=6, head=head, outputs=4, rngs=nnx.Rngs(0)
    )
    assert network.has_feature_norm == there
    x = jax.random.normal(jax.random.key(0), (3, 6))
    if there:
        before = network(x)
        network.feature_norm.mean[...] = jnp.ones(6)
        np.testing.assert_allclose(network(x + 1), before, rtol=1e-5, atol=1e-6)
    assert network.stages(x)["embeddings"].shape == (3, 4)
    with pytest.raises(ValueError, match=r"shape \(3, 5\); this network takes \[B, 6\]"):
        network(x[:, :5])


def test_a_whole_network_goes_on_behind_a_stage_with_its_head():
    network: Any = models.create_network("demo_16px", outputs=4, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    run = jax.jit(lambda network, x: network.stages(x))
    rest = jax.jit(lambda network, x, after: network(x, after=after), static_argnames="after")
    whole = run(network, x)
    for after in ("level1", "features"):
        found = rest(network, whole[after], after)
        np.testing.assert_allclose(found, whole["embeddings"], rtol=1e-5, atol=1e-5)


def head_of(name: str, kind: str | None = None) -> Any:
    backbone: Any = Means(1)
    head: Any = create_head(backbone, name, kind, 4, rngs=nnx.Rngs(0), hidden=6)
    random = np.random.default_rng(0)
    params = nnx.state(head, nnx.Param)
    drawn = {
        path: jnp.asarray(random.normal(size=value.shape), jnp.float32)
        for path, value in nnx.to_flat_state(params)
        if path[-1] == "kernel"
    }
    flat = [
        (path, value.replace(drawn.get(path, value[...])))
        for path, value in nnx.to_flat_state(params)
    ]
    nnx.update(head, nnx.from_flat_state(flat))
    return head


@pytest.mark.parametrize("kind", [None, "hidden"])
@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_tanh"])
def test_a_head_with_batch_norm_goes_by_the_batch_in_training_without_padding(name, kind):
    head, x = head_of(name, kind), jax.random.normal(jax.random.key(1), (12, 3))
    padded = jnp.concatenate([x, 100 * jnp.ones((4, 3))])
    mask = jnp.arange(16) < 12
    with normalised_by_batch({"norm": head.norm}, mask) as statistics:
        found = head(padded)[0][:12]
    with normalised_by_batch({"norm": head.norm}):
        alone = head(x)[0]
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
    if name == "batch_norm":
        np.testing.assert_allclose(alone.mean(0), np.zeros(4), atol=1e-5)
        np.testing.assert_allclose(alone.std(0), np.ones(4), rtol=1e-2)
    else:
        assert np.abs(alone).max() < 1
    # In evaluation by what training has kept, whatever else is in the batch.
    head.norm.running_mean[...] = statistics["norm/running_mean"]
    head.norm.running_variance[...] = statistics["norm/running_variance"]
    np.testing.assert_allclose(head(x[:1])[0], alone[:1], rtol=1e-4, atol=1e-5)


def test_layer_norm_normalises_each_image_alone():
    head, x = head_of("layer_norm_tanh"), jax.random.normal(jax.random.key(1), (5, 3))
    before_tanh = np.arctanh(np.asarray(head(x)[0], np.float64))
    np.testing.assert_allclose(before_tanh.mean(1), np.zeros(5), atol=1e-5)
    np.testing.assert_allclose(before_tanh.std(1), np.ones(5), rtol=1e-2)
    np.testing.assert_allclose(head(x[:1])[0], head(x)[0][:1], rtol=1e-6)


def test_a_bit_of_dnnh_sees_its_own_units_alone():
    head, x = head_of("divide_and_encode"), jax.random.normal(jax.random.key(1), (5, 3))
    before = np.asarray(head(x)[0])
    assert before.shape == (5, 4)
    kernel = head.units.kernel
    of_bit = kernel.shape[1] // 4
    kernel[...] = kernel[...].at[:, of_bit : 2 * of_bit].set(0.0)
    after = np.asarray(head(x)[0])
    np.testing.assert_array_equal(after[:, [0, 2, 3]], before[:, [0, 2, 3]])
    assert (after[:, 1] != before[:, 1]).all()
