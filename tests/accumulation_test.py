"""A batch in parts: the loss, gradients and parameters of one pass, in less memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.accumulation import (
    check_parts,
    gradients_through_outputs,
    join_parts,
    split_parts,
)
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.methods.classification import Classification
from hybridhash_jax.methods.hybridhash import HybridHash
from hybridhash_jax.methods.memory_bank import create_bank
from hybridhash_jax.optimizer import make_optimizer
from hybridhash_jax.preprocess.augmentation import make_augment
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step

SIZES: dict[str, Any] = {
    "image_size": 8, "patch_size": 2, "embed_dims": (8,), "num_heads": (2,), "depths": (2,),
    "drop_path_rate": 0.4,
}  # fmt: skip
HASHING = functools.partial(models.create_network, outputs=8, token_heads=2, **SIZES)
CLASSIFIER = functools.partial(models.create_network, head="classifier", outputs=5, **SIZES)
BATCH = 32


def make_step(kind: str, parts: int):
    """A jitted step of hashing by "bank" or "batch" pairs or of a "classifier", and its state."""
    build = CLASSIFIER if kind == "classifier" else HASHING
    graphdef, params = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
    # Plain gradient descent: the parameters' change is the gradient.
    optimizer = make_optimizer(params, name="sgd", learning_rate=0.1, momentum=0.0)
    augment = make_augment(8, horizontal_flip=True, crop_padding=1)
    method = Classification(0.1, 0.8, 1.0) if kind == "classifier" else HybridHash(kind)
    step = make_train_step(graphdef, optimizer, method, augment, accumulation_steps=parts)
    mesh = sharding.make_mesh(8)

    def first() -> TrainState:
        bank = create_bank(40, 8, 5) if kind == "bank" else None
        return first_state(nnx.split(build(rngs=nnx.Rngs(0)))[1], optimizer, bank)

    state = create_state(first, sharding.replicated(mesh))
    return compile_train_step(step, mesh), state, mesh


def make_batch(seed: int) -> dict[str, np.ndarray]:
    """32 images of which the last five are padding, and for every seed other rows of a bank."""
    rng = np.random.default_rng(seed)
    mask = np.arange(BATCH) < BATCH - 5
    labels = np.eye(5, dtype=np.uint8)[rng.integers(0, 5, BATCH)]
    return {
        "image": rng.integers(0, 256, (BATCH, 8, 8, 3)).astype(np.uint8),
        "label": labels * mask[:, None],
        "index": np.where(mask, rng.permutation(40)[:BATCH], 40).astype(np.int32),
        "mask": mask,
    }


def take_steps(kind: str, parts: int, steps: int = 2):
    step, state, mesh = make_step(kind, parts)
    key, metrics = sharding.replicate(jax.random.key(4), mesh), []
    for seed in range(steps):
        batch = sharding.put_batch(make_batch(seed), mesh)
        state, found = step(state, batch, key)
        metrics.append([float(found["loss"]), float(found["grad_norm"])])
    return np.asarray(metrics), state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "parts"), [("bank", 4), pytest.param("classifier", 2, marks=pytest.mark.thorough)]
)
def test_parts_train_as_one_batch(kind, parts):
    metrics, state = take_steps(kind, 1)
    assert metrics[0, 0] != metrics[1, 0]
    found, parted = take_steps(kind, parts)
    np.testing.assert_allclose(found, metrics, rtol=1e-5)
    for whole, part in zip(jax.tree.leaves(state), jax.tree.leaves(parted), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-5)


def test_parts_differ_where_their_own_losses_are_averaged():
    """What accumulation must not be for pairs: each part's loss taken alone."""
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(3, 2)), rng.normal(size=(8, 3))

    def loss(outputs, _):
        return jnp.sum(outputs @ outputs.T), None

    def apply(weights, x):
        return x @ weights, {}

    (whole, _), gradient, _ = gradients_through_outputs(apply, loss, weights, x, 4)
    expected = 2 * (x.T @ np.ones((8, 8)) @ x) @ weights
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    np.testing.assert_allclose(whole, np.sum(x @ weights @ weights.T @ x.T), rtol=1e-5)
    alone = sum(float(loss(part @ weights, None)[0]) for part in split_parts(x, 4))
    assert abs(alone - whole) > 0.1


@pytest.mark.parametrize("parts", [1, 4])
def test_what_the_loss_takes_of_the_parameters_themselves_has_its_gradient_once(parts):
    rng = np.random.default_rng(0)
    weights, proxies, x = (rng.normal(size=size) for size in ((3, 2), (2,), (8, 3)))

    def apply(params, x):
        return x @ params["weights"], {}

    def loss(outputs, params):
        return jnp.sum(outputs @ params["proxies"]), None

    params = {"weights": weights, "proxies": proxies}
    _, gradient, _ = gradients_through_outputs(apply, loss, params, x, parts)
    np.testing.assert_allclose(gradient["proxies"], (x @ weights).sum(0), rtol=1e-5)
    np.testing.assert_allclose(gradient["weights"], np.outer(x.sum(0), proxies), rtol=1e-5)


def test_every_part_holds_as_many_rows_of_each_device():
    rows = np.arange(24)
    parts = np.asarray(split_parts(rows, 3))
    assert parts.shape == (3, 8)
    for part in parts:  # four devices, of six consecutive rows each
        np.testing.assert_array_equal(np.bincount(part // 6), [2, 2, 2, 2])
    np.testing.assert_array_equal(join_parts(parts), rows)


def test_parts_send_no_images_between_devices():
    mesh = sharding.make_mesh(8)
    split, whole = sharding.batch_sharded(mesh), sharding.replicated(mesh)
    images = jax.ShapeDtypeStruct((32, 8, 8, 3), jnp.float32, sharding=split)
    weights = jax.ShapeDtypeStruct((3, 4), jnp.float32, sharding=whole)

    def gradients(weights, images):
        return gradients_through_outputs(
            lambda w, x: (jnp.tanh(x @ w).mean((1, 2)), {}), lambda y, _: (jnp.sum(y @ y.T), None),
            weights, images, 2,
        )[:2]  # fmt: skip

    text = jax.jit(gradients, out_shardings=whole).lower(weights, images).compile().as_text() or ""
    assert "all-reduce" in text
    assert "all-to-all" not in text
    assert "collective-permute" not in text
    gathered = [line for line in text.splitlines() if " all-gather(" in line]
    assert not any("8,8,3" in line for line in gathered), gathered


def test_more_parts_take_less_memory():
    weights, x = jnp.zeros((4, 32, 32)), jnp.zeros((1024, 32))

    def apply(weights, x):
        for weight in weights:
            x = jnp.tanh(x @ weight)
        return x.mean(1), {}

    def temporary_bytes(parts):
        def gradients(weights):
            return gradients_through_outputs(
                apply, lambda y, _: (jnp.sum(y) ** 2, None), weights, x, parts
            )

        compiled: Any = jax.jit(gradients).lower(weights).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(8) < 0.5 * temporary_bytes(1)


@pytest.mark.parametrize(
    ("batch_size", "parts", "devices", "near"), [(64, 3, 1, "63 or 66"), (24, 4, 8, "32 or 64")]
)
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest(batch_size, parts, devices, near):
    with pytest.raises(ValueError, match=f"accumulation_steps={parts} .* for example {near}"):
        check_parts(batch_size, parts, devices)
    check_parts(96, parts, devices)
