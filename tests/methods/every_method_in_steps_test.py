"""What every trained method does in a run: any number of devices, kill and resume, several labels."""

from typing import Any

import numpy as np
import pytest

from configs import embeddings
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods import METHODS
from hybridhash_jax.run import train
from hybridhash_jax.runtime.interrupt import Interrupted
from hybridhash_jax.workdir.checkpoints import flatten
from tests.runs.small_run import StopAt, outcome

pytestmark = pytest.mark.slow
TRAINED = [
    name for name, method in METHODS.items() if method.learns == "codes" and not method.is_fitted
]
# Methods whose state is of a kind that others do not have: a bank, codes found on the host, codes of
# the database, parameters that follow, batch norm, and two views.
STATES = ("dpsh", "cnnh", "jldsh_reconstructed", "mdshc", "orthohash", "dhd")
# Methods that keep and add up what another one does that is tried: dpsh, csq, jldsh.
ALIKE = (
    "dsh", "dnnh", "hashnet", "dch", "greedyhash", "hyp2", "dpn", "admh_reconstructed", "adsh",
)  # fmt: skip
FIRST = ("hybridhash", "mdshc")  # the others are thorough
STEPS = 7  # more than an epoch of 4 steps


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """96 vectors of four classes, and their labels."""
    folder, random = tmp_path_factory.mktemp("vectors"), np.random.default_rng(0)
    labels = np.arange(96) % 4
    vectors = random.normal(size=(4, 16))[labels] + random.normal(size=(96, 16))
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    np.save(folder / "labels.npy", labels)
    return folder


def config_of(files, name: str, **overrides: Any):
    config = embeddings.get_config()
    given = {
        "data.embeddings": str(files / "vectors.npy"),
        "data.labels": str(files / "labels.npy"),
        "data.query_per_class": 4,
        "data.train_per_class": 14,  # 56 images: the last batch is padded
        "method.name": name,
        "method.recipe": None,
        "loss.pairs": "bank",
        "loss.batch_weight": 1.0,  # with the batch's own pairs beside it
        "dpsh.batch_weight": 1.0,
        "bits": (8,),
        "batch_size": 16,
        "num_epochs": 2,
        "model.head_width": 8,
        "evaluation.report": False,
        "evaluation.every_epochs": 1,
        "evaluation.batch_size": 32,
        "checkpoint.every_epochs": 0.5,
        "num_devices": 1,
        "log_every_steps": 2,
    }
    config.update_from_flattened_dict(given | overrides)
    for group in ("adsh", "admh_reconstructed", "jldsh_reconstructed"):
        config[group].images, config[group].passes = 24, 2  # 4 steps an epoch as well
    return config.lock()


def losses_and_state(config) -> tuple[list[float], dict[str, np.ndarray]]:
    experiment = create_experiment(config, create_dataset(config))
    state = experiment.begin(experiment.create_state())
    batches, losses = experiment.train_batches(0), []
    for step in range(STEPS):
        batch = sharding.put_batch(next(batches), experiment.mesh)
        state, metrics = experiment.train_step(state, batch, experiment.run_key)
        losses.append(float(metrics["loss"]))
        if experiment.order.ends_epoch(step + 1):
            state = experiment.begin_epoch(state, step + 1)
    batches.close()
    experiment.close()
    return losses, {name: np.asarray(leaf) for name, leaf in flatten(state.method).items()}


@pytest.mark.parametrize(
    "name",
    [
        name if name in FIRST else pytest.param(name, marks=pytest.mark.thorough)
        for name in TRAINED
        if name not in ALIKE
    ],
)
def test_a_method_learns_the_same_on_one_device_and_on_eight(files, name):
    losses, state = losses_and_state(config_of(files, name))
    assert np.isfinite(losses).all()
    others, same = losses_and_state(config_of(files, name, num_devices=8))
    np.testing.assert_allclose(others, losses, rtol=2e-4)
    assert same.keys() == state.keys()
    for key, array in state.items():
        assert same[key].shape == array.shape, key


@pytest.mark.parametrize(
    "name",
    [name if name in FIRST else pytest.param(name, marks=pytest.mark.thorough) for name in STATES],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(files, name, tmp_path):
    config = config_of(files, name)
    train(config, tmp_path / "whole", StopAt())
    for step in (3, 4):  # inside an epoch, and between two
        with pytest.raises(Interrupted):
            train(config, tmp_path / "stopped", StopAt(step))
    train(config, tmp_path / "stopped", StopAt())
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_codes_of_the_database_are_those_that_were_learned(files, tmp_path):
    config = config_of(files, "adsh")
    experiment = create_experiment(config, create_dataset(config))
    database = experiment.dataset.splits.database
    np.testing.assert_array_equal(experiment.train_rows, database)
    of_train = config_of(files, "adsh", **{"adsh.labels": "train"})
    other = create_experiment(of_train, create_dataset(of_train))
    np.testing.assert_array_equal(other.train_rows, other.dataset.splits.train)
    (entry,) = train(config, tmp_path, StopAt())
    assert entry["train_images"] == len(database)
