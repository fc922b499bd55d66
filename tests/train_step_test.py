"""The training step: the authors' trajectory, the same losses on 1 and 8 devices, purity."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models, pretrained
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.methods.hybridhash import HybridHash
from hybridhash_jax.methods.memory_bank import create_bank
from hybridhash_jax.optimizer import frozen_mask, make_optimizer
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step
from hybridhash_jax.workdir.checkpoints import CheckpointStore, flatten

GOLDEN = Path(__file__).parent / "golden"


def normalize(images, keys):
    return preprocess.normalize(images)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", ["reference", pytest.param("spatial", marks=pytest.mark.thorough)]
)
def test_eight_steps_follow_the_authors_training(layout):
    golden = np.load(GOLDEN / f"tiny16_{layout}.npz")
    model = models.create_network(
        embed_dims=(16, 32, 64), num_heads=(2, 4, 8), depths=(1, 1, 2), outputs=16,
        token_layout=layout, rngs=nnx.Rngs(0),
    )  # fmt: skip
    pretrained.load_pretrained(model, GOLDEN / f"tiny16_{layout}.safetensors")
    graphdef, params = nnx.split(model)
    optimizer = make_optimizer(params, name="rmsprop", learning_rate=2.5e-5, weight_decay=1e-5)
    step = make_train_step(graphdef, optimizer, HybridHash("bank", "negative", 0.5), normalize)
    mesh = sharding.make_mesh(1)
    run_step = compile_train_step(step, mesh)
    state = TrainState(
        jnp.zeros((), jnp.int32), params, optimizer.init(params), create_bank(16, 16, 5)
    )
    state = jax.device_put(state, sharding.replicated(mesh))
    images = golden["train_images_14px"].repeat(16, axis=1).repeat(16, axis=2)
    key = jax.device_put(jax.random.key(0), sharding.replicated(mesh))
    losses = []
    for index in golden["train_index"]:
        batch = {
            "image": images[index],
            "label": golden["train_labels"][index].astype(np.uint8),
            "index": index.astype(np.int32),
            "mask": np.ones(len(index), bool),
        }
        state, metrics = run_step(state, sharding.put_batch(batch, mesh), key)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses, golden["train_loss"], rtol=3e-4)
    encode = jax.jit(lambda params, x: nnx.merge(graphdef, params)(preprocess.normalize(x)))
    np.testing.assert_allclose(encode(state.params, images), golden["codes_after"], atol=3e-3)


@functools.cache  # traced and compiled once for all tests
def small_program(
    pairs: str, num_devices: int, frozen: tuple[str, ...], factors: tuple[str, ...]
) -> tuple[jax.sharding.Mesh, Any, Callable[[], TrainState]]:
    """A mesh, the step of a small network with stochastic depth on it, and what makes a state."""
    options: dict[str, Any] = {
        "image_size": 16, "patch_size": 2, "embed_dims": (16, 32), "num_heads": (2, 4),
        "depths": (1, 1), "outputs": 8, "drop_path_rate": 0.3,
    }  # fmt: skip
    build = functools.partial(models.create_network, **options)
    graphdef, params = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(3))))
    mesh = sharding.make_mesh(num_devices)
    optimizer = make_optimizer(
        params,
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.1,
        frozen=frozen,
        learning_rate_factors=factors,
    )
    mask = frozen_mask(params, frozen)
    step = make_train_step(graphdef, optimizer, HybridHash(pairs), SmallRun.prepare, frozen=mask)

    def first() -> TrainState:
        bank = create_bank(40, 8, 5) if pairs == "bank" else None
        return first_state(nnx.split(build(rngs=nnx.Rngs(3)))[1], optimizer, bank)

    return mesh, compile_train_step(step, mesh), first


class SmallRun:
    """A small network in training with augmentation, and batches to train it on."""

    def __init__(
        self,
        pairs: str,
        num_devices: int,
        batch_size: int = 16,
        frozen: tuple[str, ...] = (),
        factors: tuple[str, ...] = (),
        traced_anew: bool = False,
    ):
        make = small_program.__wrapped__ if traced_anew else small_program
        self.mesh, self.step, first = make(pairs, num_devices, frozen, factors)
        self.state = create_state(first, sharding.replicated(self.mesh))
        self.key = jax.device_put(jax.random.key(1), sharding.replicated(self.mesh))
        self.random = np.random.RandomState(0)
        self.images = self.random.randint(0, 256, (40, 16, 16, 3)).astype(np.uint8)
        self.labels = np.eye(5, dtype=np.uint8)[self.random.randint(0, 5, 40)]
        self.batch_size = batch_size

    @staticmethod
    def prepare(images, keys):
        images = preprocess.augment(images, keys[0], horizontal_flip=True, crop_padding=2)
        return preprocess.normalize(images)

    def batch(self, index):
        real = index < 40
        return {
            "image": np.where(real[:, None, None, None], self.images[index % 40], 0),
            "label": np.where(real[:, None], self.labels[index % 40], 0),
            "index": index.astype(np.int32),
            "mask": real,
        }

    def losses(self, steps=6):
        out = []
        for step in range(steps):
            index = (np.arange(self.batch_size) + step * self.batch_size) % 48
            batch = sharding.put_batch(self.batch(np.minimum(index, 40)), self.mesh)
            self.state, metrics = self.step(self.state, batch, self.key)
            out.append(float(metrics["loss"]))
        return out


def test_one_and_eight_devices_give_the_same_losses():
    one, eight = SmallRun("batch", 1), SmallRun("batch", 8)  # with the bank: layout_test
    expected, found = one.losses(), eight.losses()
    assert len(set(expected)) == 6  # it trains: no two steps are alike
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(eight.state.params.hash_head.to_bits.kernel[...].sharding.device_set) == 8


@pytest.mark.slow
def test_the_step_is_a_function_of_seed_and_step():
    first, second = SmallRun("batch", 1), SmallRun("batch", 1, traced_anew=True)
    assert first.losses() == second.losses()
    jax.tree.map(np.testing.assert_array_equal, first.state.params, second.state.params)


@pytest.mark.slow
def test_what_lies_in_padding_changes_nothing():
    states = []
    for filler in (0, 255):
        run = SmallRun("bank", 1)
        batch = run.batch(np.asarray([*range(12), 40, 40, 40, 40]))
        batch["image"][12:] = filler
        batch["label"][12:] = filler % 2
        state, _ = run.step(run.state, sharding.put_batch(batch, run.mesh), run.key)
        states.append(state)
    for first, second in zip(jax.tree.leaves(states[0]), jax.tree.leaves(states[1]), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_state_is_donated():
    run = SmallRun("bank", 1)
    assert run.state.method is not None
    before = run.state.method.embeddings
    run.losses(steps=1)
    assert before.is_deleted()


def test_the_gradient_norm_is_reported():
    run = SmallRun("batch", 1)
    batch = sharding.put_batch(run.batch(np.arange(16)), run.mesh)
    _, metrics = run.step(run.state, batch, run.key)
    assert 0 < float(metrics["grad_norm"]) < np.inf


PREFIX = ("^patch_embed/", "^levels/0/")


def test_frozen_parameters_stay_as_they_are_and_the_others_learn():
    run = SmallRun("bank", 1, frozen=PREFIX)
    before = jax.tree.map(np.asarray, flatten(run.state.params))
    run.losses(steps=2)
    for path, after in flatten(run.state.params).items():
        frozen = path.startswith(("patch_embed/", "levels/0/"))
        assert np.array_equal(before[path], after) == frozen, path


@pytest.mark.slow
def test_the_backward_pass_of_a_frozen_prefix_is_not_computed():
    def flops(frozen):
        run = SmallRun("batch", 1, frozen=frozen)
        batch = sharding.put_batch(run.batch(np.arange(16)), run.mesh)
        return run.step.lower(run.state, batch, run.key).cost_analysis()["flops"]

    everything = flops(())
    assert flops(PREFIX) < 0.75 * everything
    # A parameter before the frozen ones still needs the gradient to pass through them.
    assert flops(("^levels/0/layers/0/mlp",)) > 0.9 * everything


@pytest.mark.thorough
def test_frozen_parts_and_factors_go_through_a_checkpoint(tmp_path):
    options: Any = {"frozen": PREFIX, "factors": ("^hash_head=1", ".=0.1")}
    first, second = (SmallRun("bank", 1, traced_anew=anew, **options) for anew in (False, True))
    first.losses(steps=2)
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(2, first.state, {})
    store.wait()
    second.state, _ = store.restore(2, second.state)
    store.close()
    assert first.losses(steps=2) == second.losses(steps=2)
    jax.tree.map(np.testing.assert_array_equal, first.state, second.state)
    moments = [path for path in flatten(first.state.opt_state) if "/mu/" in path]
    assert moments
    assert not any("patch_embed" in path or "levels/0/" in path for path in moments)
