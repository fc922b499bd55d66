"""Training with batch norm by the batch: running statistics follow it, and nothing else changes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.accumulation import split_parts
from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.config_rules import check_config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.methods.classification import Classification
from hybridhash_jax.models.batch_statistics import normalised_by_batch
from hybridhash_jax.optimizer import frozen_mask, make_optimizer
from hybridhash_jax.parameters import constants, flatten, module_paths, norms_in_training
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step
from hybridhash_jax.workdir.checkpoints import CheckpointStore
from tests.runs.small_run import make_config

BATCH, EPSILON = 16, 1e-3
STATISTICS = ("/running_mean", "/running_variance")
CREATE = functools.partial(
    models.create_network, "efficientnet_lite0", head="classifier", outputs=5, image_size=32,
    width=0.25, depth=0.3, drop_path_rate=0.0, batch_norm="batch",
)  # fmt: skip


def prepare(images, keys):
    del keys
    return images.astype(np.float32) / 127 - 1


class Run:
    """A small EfficientNet-Lite in training; without `by_batch` its batch norm is frozen."""

    def __init__(
        self,
        by_batch: bool = True,
        parts: int = 1,
        frozen: tuple[str, ...] = (),
        num_devices: int = 1,
        learning_rate: float = 0.05,
    ):
        self.graphdef, params = nnx.split(nnx.eval_shape(lambda: CREATE(rngs=nnx.Rngs(1))))
        patterns = (*frozen, *constants(params))
        optimizer = make_optimizer(
            params, name="sgd", learning_rate=learning_rate, momentum=0.0, frozen=patterns
        )
        mask = frozen_mask(params, patterns)
        self.batch_norms = norms_in_training(mask) if by_batch else ()
        step = make_train_step(
            self.graphdef,
            optimizer,
            Classification(0.0, 0.0, 0.0),
            prepare,
            frozen=mask,
            accumulation_steps=parts,
            batch_norms=self.batch_norms,
        )
        self.mesh = sharding.make_mesh(num_devices)
        self.step: Any = compile_train_step(step, self.mesh)

        def first() -> TrainState:
            return first_state(nnx.split(CREATE(rngs=nnx.Rngs(1)))[1], optimizer, None)

        self.state = create_state(first, sharding.replicated(self.mesh))
        self.key = sharding.replicate(jax.random.key(0), self.mesh)

    def train(self, steps: int, start: int = 0) -> list[float]:
        losses = []
        for i in range(start, start + steps):
            batch = sharding.put_batch(make_batch(i), self.mesh)
            self.state, metrics = self.step(self.state, batch, self.key)
            losses.append(float(metrics["loss"]))
        return losses

    @property
    def values(self) -> dict[str, np.ndarray]:
        found = flatten(self.state.params)
        return {name.removesuffix("/value"): np.asarray(value) for name, value in found.items()}


def make_batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 5, BATCH)
    images = rng.integers(0, 150, (BATCH, 32, 32, 3)) + 25 * classes[:, None, None, None]
    return {
        "image": images.astype(np.uint8),
        "label": np.eye(5, dtype=np.uint8)[classes],
        "index": np.arange(BATCH, dtype=np.int32),
        "mask": np.arange(BATCH) < BATCH - 2,
    }


def stem_outputs(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """What the stem's convolution gives, [n, C]: every window of 3 x 3 and stride 2, by NumPy."""
    padded = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)))  # TensorFlow's SAME
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    out = np.einsum("bhwcij,ijcd->bhwd", windows, kernel)
    return out.reshape(-1, kernel.shape[-1])


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


def normal(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.sqrt(x.var(0) + EPSILON) * scale + bias


def depthwise(maps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("bhwcij,ijc->bhwc", windows, kernel).reshape(-1, kernel.shape[-1])


def statistics_by_hand(values: dict[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and variance at the stem and in the first block, which has no expansion."""
    found = {}

    def norm(name: str, rows: np.ndarray) -> np.ndarray:
        found[f"{name}/running_mean"] = rows.mean(0)
        found[f"{name}/running_variance"] = rows.var(0)
        return normal(rows, values[f"{name}/scale"], values[f"{name}/bias"])

    x = relu6(norm("stem", stem_outputs(images, values["stem/kernel"])))
    maps = x.reshape(len(images), 16, 16, -1)
    rows = depthwise(maps, values["blocks/0/depthwise/kernel"])
    x = relu6(norm("blocks/0/depthwise", rows))
    norm("blocks/0/project", x @ values["blocks/0/project/kernel"])
    return found


def test_running_statistics_follow_the_batch_as_computed_by_hand():
    run = Run()
    expected = {name: value for name, value in run.values.items() if name.endswith(STATISTICS)}
    assert len(expected) == 2 * len(run.batch_norms) > 20
    for seed in range(3):
        values, images = run.values, prepare(make_batch(seed)["image"], ())
        own = statistics_by_hand(values, images)
        expected |= {name: 0.99 * expected[name] + 0.01 * own[name] for name in own}
        run.train(1, start=seed)
        for name in own:
            np.testing.assert_allclose(run.values[name], expected[name], rtol=1e-3, atol=1e-5)
    assert np.abs(run.values["conv_head/running_mean"]).max() > 0  # the last one follows as well


@pytest.mark.thorough
def test_parts_follow_the_mean_of_what_each_of_them_gives():
    run = Run(parts=2)
    params = jax.tree.map(jnp.copy, run.state.params)
    model = nnx.merge(run.graphdef, params)
    modules = module_paths(model)

    def statistics(images):
        with normalised_by_batch({path: modules[path] for path in run.batch_norms}) as found:
            model(images)
        return found

    found = [jax.jit(statistics)(x) for x in split_parts(prepare(make_batch(0)["image"], ()), 2)]
    before = run.values
    run.train(1)
    assert len(found[0]) == 2 * len(run.batch_norms)
    for name in found[0]:
        mean = (found[0][name] + found[1][name]) / 2
        expected = 0.99 * before[name] + 0.01 * np.asarray(mean)
        np.testing.assert_allclose(run.values[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_frozen_batch_norm_keeps_its_statistics_and_learns():
    run = Run(by_batch=False)
    before = run.values
    run.train(2)
    for name, value in run.values.items():
        same = np.array_equal(value, before[name])
        assert same == name.endswith(STATISTICS), name


@pytest.mark.slow
def test_it_learns_and_what_is_frozen_stays_as_it_is():
    run = Run(frozen=("^stem/", "^blocks/0/"))
    before = run.values
    losses = run.train(8)
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    assert "stem" not in run.batch_norms
    assert "blocks/1/expand" in run.batch_norms
    for name, value in run.values.items():
        frozen = name.startswith(("stem/", "blocks/0/"))
        assert np.array_equal(value, before[name]) == frozen, name


def test_a_norm_of_which_something_is_trained_follows():
    _, params = nnx.split(nnx.eval_shape(lambda: CREATE(rngs=nnx.Rngs(1))))
    all_norms = norms_in_training(frozen_mask(params, constants(params)))
    kernels = norms_in_training(frozen_mask(params, ("/kernel$", *constants(params))))
    assert set(kernels) == set(all_norms)
    stem = norms_in_training(frozen_mask(params, ("^stem/", *constants(params))))
    assert set(all_norms) - set(stem) == {"stem"}


@pytest.mark.thorough
def test_statistics_are_of_the_whole_batch_on_all_devices():
    one, eight = Run(), Run(num_devices=8)
    before = one.values
    np.testing.assert_allclose(eight.train(1), one.train(1), rtol=1e-5)
    ours, theirs, changes = [], [], one.values
    for name, value in eight.values.items():
        if name.endswith(STATISTICS):
            np.testing.assert_allclose(value, changes[name], rtol=1e-4, atol=1e-6, err_msg=name)
        else:  # one value of many may lie on the other side of ReLU6's kinks
            ours.append((value - before[name]).ravel())
            theirs.append((changes[name] - before[name]).ravel())
    difference = np.linalg.norm(np.concatenate(ours) - np.concatenate(theirs))
    assert difference < 0.03 * np.linalg.norm(np.concatenate(theirs))


@pytest.mark.thorough
def test_a_run_goes_on_from_a_checkpoint_to_the_same_statistics(tmp_path):
    first, second = Run(), Run()
    first.train(2)
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(2, first.state, {})
    store.wait()
    second.state, _ = store.restore(2, second.state)
    store.close()
    assert first.train(2, start=2) == second.train(2, start=2)
    jax.tree.map(np.testing.assert_array_equal, first.state, second.state)


def test_it_is_refused_where_parameters_are_split():
    config = make_config(model__batch_norm="batch", mesh__fsdp=2)
    with pytest.raises(ConfigError, match=r"model.batch_norm='batch' with mesh.fsdp=2"):
        check_config(config)
    check_config(make_config(model__batch_norm="batch"))
