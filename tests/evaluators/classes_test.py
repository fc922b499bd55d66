"""Top-1, top-5 and the loss: every image once, no padding."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.encode import NotANumberError
from hybridhash_jax.evaluators.classes import ClassEvaluator
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import create_dataset
from tests.runs.small_run import make_config


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    config = make_config(
        task="classify", evaluation__selected_by="last", num_devices=8, evaluation__batch_size=64
    )  # 200 queries: the last batch has 8 of them
    return create_experiment(config, create_dataset(config))


def test_an_evaluation_counts_every_image_once_and_no_padding(experiment):
    state, seen = experiment.create_state(), []
    found = ClassEvaluator(experiment).evaluate(state, 16, on_images=seen.append).record
    rows, dataset = experiment.dataset.splits.query, experiment.dataset
    apply = jax.jit(experiment.apply)
    logits = np.asarray(apply(state.params, dataset.images[rows]), float)
    class_ids = dataset.labels[rows].argmax(axis=1)
    places = (-logits).argsort(axis=1, kind="stable")
    for name, k in (("top1", 1), ("top5", 5)):
        right = (places[:, :k] == class_ids[:, None]).any(axis=1)
        assert found[name] == pytest.approx(right.mean(), abs=1e-6)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), class_ids]
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert found["validation"] == sum(seen) == 200
    assert (found["step"], found["epoch"]) == (16, 2)
    json.dumps(found)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_no_evaluation(experiment, monkeypatch, wrong):
    def apply(self, params, images):
        is_wrong = (jnp.arange(len(images)) % 2 == 1)[:, None]  # of padding, too
        return jnp.where(is_wrong, wrong, original(self, params, images))

    original = Experiment.apply
    monkeypatch.setattr(Experiment, "apply", apply)
    with pytest.raises(NotANumberError, match="outputs of 100 of 200 validation images are NaN"):
        ClassEvaluator(experiment).evaluate(experiment.create_state(), 16)


def test_nothing_to_measure_is_explained(experiment, monkeypatch):
    def unreadable(self, rows):
        for batch in batches(self, rows):
            yield batch | {"mask": np.zeros_like(batch["mask"])}

    batches = Experiment.eval_batches
    monkeypatch.setattr(Experiment, "eval_batches", unreadable)
    with pytest.raises(ValueError, match="none of the validation images could be read"):
        ClassEvaluator(experiment).evaluate(experiment.create_state(), 0)


def test_images_of_several_classes_cannot_be_classified(experiment):
    dataset = experiment.dataset
    several = dataclasses.replace(dataset, labels=np.ones_like(dataset.labels))
    with pytest.raises(ValueError, match="200 of 200 images have several labels or none") as error:
        create_experiment(experiment.config, _with_train(several, dataset))
    assert "query images of digits" in str(error.value)


def _with_train(several, dataset):
    """Several labels for the queries alone."""
    labels = dataset.labels.copy()
    labels[dataset.splits.query] = 1
    return dataclasses.replace(several, labels=labels)
