"""The classifier's step: 1 and 8 devices agree, the average lags behind, padding is nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.methods.classification import Classification
from hybridhash_jax.optimizer import frozen_mask, make_optimizer
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.preprocess.augmentation import make_augment
from hybridhash_jax.state import TrainState, create_state, decay_at, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step
from hybridhash_jax.workdir.checkpoints import flatten

BUILD = functools.partial(
    models.create_network, head="classifier", outputs=4, image_size=8, patch_size=2,
    embed_dims=(8, 16), num_heads=(2, 4), depths=(1, 1), drop_path_rate=0.2,
)  # fmt: skip
AUGMENT = make_augment(8, horizontal_flip=True, crop_padding=1, magnitude=5.0, random_erasing=0.3)


def plain(images, keys):
    return preprocess.normalize(images)


@functools.cache  # traced and compiled once for all tests
def program(num_devices, augment, mixing, ema_decay, frozen):
    """The step, what makes a state, the mesh and the network."""
    graphdef, params = nnx.split(nnx.eval_shape(lambda: BUILD(rngs=nnx.Rngs(0))))
    mesh = sharding.make_mesh(num_devices)
    optimizer = make_optimizer(params, name="sgd", learning_rate=0.05, frozen=frozen)
    step = make_train_step(
        graphdef,
        optimizer,
        Classification(0.1, *mixing),
        augment,
        ema_decay=ema_decay,
        frozen=frozen_mask(params, frozen),
    )

    def first() -> TrainState:
        params = nnx.split(BUILD(rngs=nnx.Rngs(0)))[1]
        return first_state(params, optimizer, None, averaged=ema_decay > 0)

    return compile_train_step(step, mesh), first, mesh, graphdef


def make_run(num_devices, augment, mixing, ema_decay=0.0, frozen=()):
    run, first, mesh, graphdef = program(num_devices, augment, mixing, ema_decay, frozen)
    return run, create_state(first, sharding.replicated(mesh)), mesh, graphdef


def make_batch(count=16, real=16):
    rng = np.random.default_rng(0)
    mask = np.arange(count) < real
    images = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    labels = np.eye(4, dtype=np.uint8)[rng.integers(0, 4, count)]
    images[~mask], labels[~mask] = 0, 0
    index = np.arange(count, dtype=np.int32)
    return {"image": images, "label": labels, "mask": mask, "index": index}


def take_steps(run, state, mesh, batch, steps, seed=0):
    key, states = sharding.replicate(jax.random.key(seed), mesh), []
    losses = []
    for _ in range(steps):
        state, metrics = run(state, sharding.put_batch(batch, mesh), key)
        states.append({name: np.array(x) for name, x in flatten(state).items()})
        losses.append(float(metrics["loss"]))
    return losses, states


@pytest.mark.thorough
def test_one_device_and_eight_train_alike():
    found = []
    for count in (1, 8):
        run, state, mesh, _ = make_run(count, AUGMENT, (0.8, 1.0), 0.9)
        losses, _ = take_steps(run, state, mesh, make_batch(real=13), 3)
        found.append(losses)
    np.testing.assert_allclose(*found, rtol=2e-3)


def test_the_seed_and_the_step_decide_all_randomness():
    run, state, mesh, _ = make_run(1, AUGMENT, (0.8, 1.0), 0.9)
    losses = []
    for seed in (0, 0, 1):
        start = jax.tree.map(jnp.copy, state)
        losses.append(take_steps(run, start, mesh, make_batch(), 2, seed)[0])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]


def test_the_average_is_of_the_parameters_after_each_step():
    run, state, mesh, _ = make_run(1, AUGMENT, (0.8, 1.0), 0.9)
    first = {name: np.array(x) for name, x in flatten(state).items()}
    _, states = take_steps(run, state, mesh, make_batch(), 4)
    name = "head/kernel/value"
    expected = first[f"ema/{name}"]
    np.testing.assert_array_equal(expected, first[f"params/{name}"])
    for step, after in enumerate(states):
        decay = float(decay_at(jnp.asarray(step), 0.9))
        expected = decay * expected + (1 - decay) * after[f"params/{name}"]
        np.testing.assert_allclose(after[f"ema/{name}"], expected, rtol=1e-4, atol=1e-7)


def test_without_an_average_the_state_has_none():
    run, state, mesh, _ = make_run(1, plain, ())
    _, states = take_steps(run, state, mesh, make_batch(), 1)
    assert not any(name.startswith("ema/") for name in states[0])


def test_no_gradient_of_a_frozen_level_is_computed():
    def flops(frozen):
        run, state, mesh, _ = make_run(1, plain, (), frozen=frozen)
        key = sharding.replicate(jax.random.key(0), mesh)
        lowered = run.lower(state, sharding.put_batch(make_batch(), mesh), key)
        return lowered.cost_analysis()["flops"]

    assert flops(("^patch_embed/", "^levels/0/")) < 0.8 * flops(())
