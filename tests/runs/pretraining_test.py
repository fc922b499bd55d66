"""A classifier on the digits: learns, resumes to the same bits, is evaluated, starts hashing."""

import json
import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.evaluation_run import evaluate_checkpoint
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.pretrained.workdirs import read_run
from hybridhash_jax.run import train
from hybridhash_jax.runtime import console
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.interrupt import Interrupted
from hybridhash_jax.workdir.checkpoints import flatten
from hybridhash_jax.workdir.config import load_config
from hybridhash_jax.workdir.log import read_log
from tests.runs.small_run import StopAt, make_config, outcome

CLASSIFY = {
    "task": "classify",
    "num_epochs": 4,
    "model__drop_path_rate": 0.05,
    "optimizer__learning_rate": 6e-3,
    "evaluation__selected_by": "validation",
    "evaluation__every_epochs": 2,
    "pretraining__mix_probability": 0.3,
    "pretraining__random_erasing": 0.1,
    "pretraining__augment_magnitude": 1.0,
    "pretraining__ema_decay": 0.8,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The workdir of a run that was never stopped; it draws its figure."""
    workdir = tmp_path_factory.mktemp("classifier")
    train(make_config(**CLASSIFY, evaluation__report=True), workdir, StopAt())
    return workdir


def test_a_classifier_learns(finished):
    (entry,) = json.loads((finished / "results.json").read_text())
    untrained = entry["evaluations"][0]
    assert untrained["top1"] < 0.35  # one of ten classes
    assert entry["best"]["top1"] > 0.6
    assert entry["top1"] == max(record["top1"] for record in entry["evaluations"])
    assert all(record["top1"] <= record["top5"] <= 1 for record in entry["evaluations"])
    assert entry["last"]["epoch"] == 4


def test_its_run_leaves_what_it_promises(finished):
    (entry,) = json.loads((finished / "results.json").read_text())
    expected = {
        "task": "classify", "dataset": "digits", "classes": 10, "validation": 200,
        "train_images": 1000, "selected_by": "validation", "averaged_parameters": True,
    }  # fmt: skip
    assert expected.items() <= entry.items()
    assert entry["train_images_per_second"] > 0
    assert [record["epoch"] for record in entry["evaluations"]] == [0, 2, 4]
    assert (finished / "training.png").read_bytes().startswith(b"\x89PNG")
    assert not (finished / "report.json").exists()
    lines = read_log(finished)
    assert [x["step"] for x in lines if x["kind"] == "evaluation"] == [0, 16, 32]
    assert len([x for x in lines if x["kind"] == "train"]) == 16


@pytest.mark.thorough
def test_stopped_inside_an_epoch_it_goes_on_to_the_same_end(finished, tmp_path):
    config = make_config(**CLASSIFY)
    with pytest.raises(Interrupted, match="after step 21"):
        train(config, tmp_path, StopAt(21))
    train(config, tmp_path, StopAt())
    assert outcome(tmp_path) == outcome(finished)


def test_a_checkpoint_is_evaluated_as_it_was_in_training(finished, capsys):
    console.set_up()
    (entry,) = json.loads((finished / "results.json").read_text())
    for which, record in (("selected", entry), ("latest", entry["last"])):
        found = evaluate_checkpoint(load_config(finished), finished, which)
        assert (found["top1"], found["top5"]) == (record["top1"], record["top5"])
        saved = json.loads((finished / "evaluation" / "results.json").read_text())
        assert saved == [found]
    with pytest.raises(ValueError, match="accepted: selected, latest"):
        evaluate_checkpoint(load_config(finished), finished, "newest")


def test_the_average_is_what_is_evaluated_and_what_others_start_from(finished):
    (entry,) = json.loads((finished / "results.json").read_text())
    run = read_run(finished)
    assert any(path.startswith("params/") for path in run.others)
    assert "head/kernel" in run.arrays
    assert entry["parameters_fingerprint"] != entry["evaluations"][-1]["parameters_fingerprint"]


def test_hashing_starts_from_a_classifier(finished, caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    config = make_config(init__weights=str(finished), init__checkpoint="selected")
    with caplog.at_level(logging.INFO, logger="hybridhash_jax"):
        experiment = create_experiment(config, create_dataset(config))
        state, _ = experiment.load_weights(experiment.create_state())
    assert state.ema is None
    found, source = flatten(state.params), read_run(finished, "selected").arrays
    shared = [path for path in source if not path.startswith("head/")]
    assert len(shared) > 20
    for path in shared:
        np.testing.assert_array_equal(found[f"{path}/value"], source[path], err_msg=path)
    assert "classification head" in caplog.text
    assert "plain NesT has no hash head" in caplog.text


@pytest.mark.thorough
def test_a_network_that_hashes_trains_from_a_classifier(finished, tmp_path):
    (entry,) = train(make_config(init__weights=str(finished), num_epochs=2), tmp_path, StopAt())
    assert entry["init_from"].startswith(f"{finished} (own run): 34 loaded")
    untrained, *_, trained = entry["evaluations"]
    assert trained["map_expected"] > untrained["map_expected"] + 0.1


def test_a_classifier_starts_from_another_with_an_average_of_its_own(finished):
    config = make_config(**CLASSIFY, init__weights=str(finished))
    experiment = create_experiment(config, create_dataset(config))
    state, loaded = experiment.load_weights(experiment.create_state())
    assert loaded is not None and "head/kernel" in loaded.names("loaded")
    parameters, average = jax.tree.leaves(state.params), jax.tree.leaves(state.ema)
    for ours, mean in zip(parameters, average, strict=True):
        np.testing.assert_array_equal(ours, mean)
        assert ours.unsafe_buffer_pointer() != mean.unsafe_buffer_pointer()
    source = read_run(finished).arrays["head/kernel"]
    np.testing.assert_array_equal(flatten(state.ema)["head/kernel/value"], source)


def test_a_workdir_that_hashes_does_not_become_a_classifier_s(finished):
    with pytest.raises(ConfigError, match="task: 'classify' there, 'hash' here"):
        train(make_config(), finished, StopAt())


def test_the_queries_of_hashing_cannot_select_a_classifier(tmp_path):
    config = make_config(**CLASSIFY | {"evaluation__selected_by": "query"})
    with pytest.raises(ConfigError, match="accepted for task=classify: validation"):
        train(config, tmp_path, StopAt())
