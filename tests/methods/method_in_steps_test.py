"""What a method may do in a run: learn parameters, keep rows, act between epochs, give codes."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.evaluators.codes import CodeEvaluator
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods import METHODS, Method
from hybridhash_jax.workdir.checkpoints import flatten
from tests.runs.small_run import make_config


@dataclasses.dataclass(frozen=True)
class Toy(Method):
    """Draws outputs to trained proxies; its state counts epochs and keeps outputs by image."""

    title, group = "toy", "loss"

    def init_state(self, labels, bits, key):
        del key
        rows = {"outputs": jnp.zeros((len(labels), bits)), "labels": labels}
        return {"rows": rows, "epochs": jnp.zeros((), jnp.int32)}

    def row_leaves(self, state):
        return {"rows": {"outputs": True, "labels": True}, "epochs": False}

    def init_parameters(self, num_classes, bits, key):
        return {"proxies": jax.random.normal(key, (num_classes, bits))}

    def loss(self, outputs, examples, state, step):
        targets = examples.targets @ examples.parameters["proxies"]
        errors = jnp.square(outputs - targets).sum(axis=1)
        kept = jax.lax.stop_gradient(outputs)
        seen = state["rows"]["outputs"].at[examples.index].set(kept, mode="drop")
        state = state | {"rows": state["rows"] | {"outputs": seen}}
        return jnp.sum(jnp.where(examples.mask, errors, 0)) / examples.mask.sum(
            dtype=jnp.float32
        ), state

    def end_epoch(self, state, step, rows):
        return state | {"epochs": state["epochs"] + 1}

    def database_codes(self, state):
        return state["rows"]["outputs"]


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "hybridhash", Toy)


def experiment_of(**overrides):
    config = make_config(**overrides)
    return create_experiment(config, create_dataset(config))


def test_rows_are_split_over_devices_and_other_arrays_are_on_each(toy):
    experiment = experiment_of(num_devices=8)
    state = experiment.create_state()
    rows = state.method["rows"]
    assert rows["outputs"].sharding.shard_shape(rows["outputs"].shape) == (125, 8)
    labels = experiment.dataset.labels[experiment.train_rows]
    np.testing.assert_array_equal(rows["labels"], labels)
    assert state.method["epochs"].sharding.is_fully_replicated


def test_every_step_changes_the_proxies_and_every_epoch_counts(toy):
    experiment = experiment_of()
    state = experiment.create_state()
    before = np.asarray(flatten(state.params)["method/proxies/value"])
    with contextlib.closing(experiment.train_batches(0)) as batches:
        batch = sharding.put_batch(next(batches), experiment.mesh)
    state, _ = experiment.train_step(state, batch, experiment.run_key)
    after = np.asarray(flatten(state.params)["method/proxies/value"])
    assert (before != after).any(axis=1).all()
    state = experiment.begin_epoch(state, experiment.steps_per_epoch)
    assert state.method["epochs"] == 1


def test_learned_codes_stand_for_the_images_that_were_trained_on(toy):
    experiment = experiment_of(num_devices=1)
    splits = experiment.dataset.splits
    mixed = np.concatenate([splits.database[:5], splits.train[7:9]])
    dataset = dataclasses.replace(
        experiment.dataset, splits=dataclasses.replace(splits, database=mixed)
    )
    experiment = dataclasses.replace(experiment, dataset=dataset)
    state = experiment.create_state()
    learned = np.where(np.arange(8) % 3 == 0, 1.0, -1.0)
    outputs = state.method["rows"]["outputs"].at[7:9].set(learned)
    rows = state.method["rows"] | {"outputs": outputs}
    state = dataclasses.replace(state, method=state.method | {"rows": rows})
    never = lambda: False  # noqa: E731
    _, database = CodeEvaluator(experiment).encode_sides(state, never, lambda images: None)
    np.testing.assert_array_equal(database.codes[5:], [learned, learned])
    plain = dataclasses.replace(experiment, method=METHODS["csq"]())
    _, encoded = CodeEvaluator(plain).encode_sides(state, never, lambda images: None)
    np.testing.assert_array_equal(database.codes[:5], encoded.codes[:5])
