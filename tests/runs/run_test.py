"""A shipped configuration, shrunk: trains, evaluates, resumes, sweeps over lengths."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from hybridhash_jax.codes.files import load_code_sets, load_codes, save_codes
from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.evaluation_run import evaluate_checkpoint
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.retrieval.model_file.records import record_of
from hybridhash_jax.run import train
from hybridhash_jax.runtime import console
from hybridhash_jax.runtime.interrupt import Interrupted
from hybridhash_jax.train import TrainingDivergedError
from hybridhash_jax.workdir import results
from hybridhash_jax.workdir.checkpoints import CheckpointError
from hybridhash_jax.workdir.config import load_config
from hybridhash_jax.workdir.log import read_log
from tests.retrieval.index.made import MODEL
from tests.runs.small_run import StopAt, make_config, outcome


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("run")
    train(make_config(), workdir, StopAt())
    return workdir


def test_a_run_leaves_what_it_promises(finished):
    for name in ("config.json", "metrics.jsonl", "results.json", "report.json", "checkpoints"):
        assert (finished / name).exists(), name
    assert list((finished / "tensorboard").glob("events.*"))
    (entry,) = json.loads((finished / "results.json").read_text())
    expected = {
        "dataset": "digits", "protocol": "digits", "bits": 8, "top_k": None, "queries": 200,
        "database": 597, "train_images": 1000, "seed": 0, "selected_by": "query",
    }  # fmt: skip
    assert expected.items() <= entry.items()
    assert entry["map_expected"] == max(x["map_expected"] for x in entry["evaluations"])
    assert entry["train_images_per_second"] > 0
    assert entry["evaluate_seconds"] > 0
    assert [x["epoch"] for x in entry["evaluations"]] == [0, 1, 2, 3]


def test_training_improves_on_the_untrained_network(finished):
    (entry,) = json.loads((finished / "results.json").read_text())
    untrained, last = entry["evaluations"][0], entry["last"]
    assert last["map_expected"] > untrained["map_expected"] + 0.05


def test_the_log_has_a_line_a_logged_step_and_evaluation(finished):
    lines = read_log(finished)
    assert [x["step"] for x in lines if x["kind"] == "train"] == list(range(2, 25, 2))
    assert [x["step"] for x in lines if x["kind"] == "evaluation"] == [0, 8, 16, 24]
    assert all(np.isfinite(x["loss"]) and x["grad_norm"] > 0 for x in lines if x["kind"] == "train")


def test_waiting_for_images_counts_and_is_told(tmp_path, monkeypatch):
    make_batches, pause = Experiment.train_batches, 0.3

    def slow_batches(self: Experiment, start_step: int):
        for batch in make_batches(self, start_step):
            time.sleep(pause)
            yield batch

    monkeypatch.setattr(Experiment, "train_batches", slow_batches)
    config = make_config(num_epochs=1)
    train(config, tmp_path, StopAt())
    lines = [line for line in read_log(tmp_path) if line["kind"] == "train"]
    for line in lines[1:]:
        assert line["images_per_second"] < config.batch_size / pause
        assert line["waiting_for_images"] > 0.5


@pytest.mark.thorough
def test_a_run_stopped_inside_an_epoch_goes_on_to_the_same_end(finished, tmp_path):
    with pytest.raises(Interrupted, match="after step 19"):
        train(make_config(), tmp_path, StopAt(19))
    train(make_config(), tmp_path, StopAt())
    assert outcome(tmp_path) == outcome(finished)


class StopDuringEvaluation(StopAt):
    """Asks to stop after the evaluation of a step has begun."""

    def requested(self, step: int) -> bool:
        if step != self.step:
            return False
        self.asked = getattr(self, "asked", 0) + 1
        return self.asked > 2


@pytest.mark.thorough
def test_a_run_stopped_during_its_last_evaluation_still_records_it(finished, tmp_path):
    with pytest.raises(Interrupted, match="after step 24"):
        train(make_config(), tmp_path, StopDuringEvaluation(24))
    meta = tmp_path / "checkpoints" / "24" / "meta" / "metadata"
    assert [x["step"] for x in json.loads(meta.read_text())["history"]] == [0, 8, 16]
    train(make_config(), tmp_path, StopAt())
    assert [x["step"] for x in json.loads(meta.read_text())["history"]] == [0, 8, 16, 24]
    assert outcome(tmp_path) == outcome(finished)


def test_starting_a_finished_run_again_changes_nothing(finished):
    before = outcome(finished)
    train(make_config(), finished, StopAt())
    assert outcome(finished) == before


def test_a_run_whose_checkpoints_are_gone_says_that_it_starts_again(finished, tmp_path, capsys):
    console.set_up()
    alone = Path(shutil.copytree(finished, tmp_path / "w"))
    shutil.rmtree(alone / "checkpoints")
    for workdir in (alone, tmp_path / "new"):
        with pytest.raises(Interrupted):
            train(make_config(), workdir, StopAt(0))
        told = "has the log of a run but no checkpoint to go on from" in capsys.readouterr().out
        assert told == (workdir == alone)


def test_a_checkpoint_is_evaluated_as_it_was_in_training(finished, tmp_path, capsys):
    console.set_up()
    (entry,) = json.loads((finished / "results.json").read_text())
    for which, record in (("selected", entry), ("latest", entry["last"])):
        found = evaluate_checkpoint(load_config(finished), finished, which)
        assert found["map_expected"] == record["map_expected"]
        assert found["map_stable"] == record["map_stable"]
        own = "evaluation" if found["epoch"] == entry["epoch"] else "evaluation-24"
        saved = json.loads((finished / own / "results.json").read_text())
        assert saved == [found]
    # A model card has them, also where the run's own results are gone.
    alone = Path(shutil.copytree(finished, tmp_path / "w"))
    (alone / "results.json").unlink()
    for folder in (finished, alone):
        source = {"kind": "workdir", "workdir": str(folder), "checkpoint": 24}
        record = record_of(dataclasses.replace(MODEL, source=source))
        assert record.measured is not None and record.entry["dataset"] == "digits"
        assert record.measured["map_expected"] == entry["last"]["map_expected"]
    with pytest.raises(CheckpointError, match="there is no checkpoint .*7777"):
        evaluate_checkpoint(load_config(finished), finished, "7777")
    with pytest.raises(ValueError, match="accepted: selected, latest"):
        evaluate_checkpoint(load_config(finished), finished, "newest")


def test_the_codes_that_are_kept_are_those_of_the_selected_evaluation(finished):
    (entry,) = json.loads((finished / "results.json").read_text())
    step = round(entry["epoch"] * 8)
    selected = next(record for record in entry["evaluations"] if record["step"] == step)
    query, database = load_code_sets(str(finished / "codes"))
    assert query.fingerprint == database.fingerprint == selected["parameters_fingerprint"]
    assert (len(query), len(database), query.bits) == (200, 597, 8)
    found = evaluate_checkpoint(load_config(finished), finished, str(step))
    again = load_code_sets(str(finished / "evaluation" / "codes"))
    for kept, encoded in zip((query, database), again, strict=True):
        np.testing.assert_array_equal(kept.packed, encoded.packed)
        np.testing.assert_array_equal(kept.rows, encoded.rows)
        np.testing.assert_array_equal(kept.labels, encoded.labels)
    assert found["map_expected"] == entry["map_expected"]


def test_codes_that_are_gone_or_of_another_model_are_made_again(finished):
    before = load_code_sets(str(finished / "codes"))
    results_before = outcome(finished)
    for damage in ("delete", "other"):
        for path in (finished / "codes").iterdir():
            if damage == "delete":
                path.unlink()
            else:
                save_codes(path, dataclasses.replace(load_codes(path), fingerprint="00000000"))
        train(make_config(), finished, StopAt())
        for kept, again in zip(before, load_code_sets(str(finished / "codes")), strict=True):
            np.testing.assert_array_equal(kept.packed, again.packed)
            assert kept.fingerprint == again.fingerprint
    assert outcome(finished) == results_before


class StopWhileEncoding(StopAt):
    """Asks to stop where images are encoded, and nowhere else."""

    def requested_while_evaluating(self, step: int) -> bool:
        return True


def test_a_signal_while_codes_are_made_again_is_heard_and_the_next_start_makes_them(finished):
    before = outcome(finished)
    for path in (finished / "codes").iterdir():
        path.unlink()
    with pytest.raises(Interrupted, match="after step 24; the state is saved"):
        train(make_config(), finished, StopWhileEncoding())
    assert not list((finished / "codes").iterdir())
    train(make_config(), finished, StopAt())
    assert len(list((finished / "codes").iterdir())) == 2
    assert outcome(finished) == before


def test_the_report_measures_what_the_results_say(finished):
    (entry,) = json.loads((finished / "results.json").read_text())
    report = json.loads((finished / "report.json").read_text())
    assert report["map"]["expected"] == entry["map_expected"]
    assert report["map"]["stable"] == entry["map_stable"]
    assert entry["map_pessimistic"] <= entry["map_expected"] <= entry["map_optimistic"]
    assert len(report["evaluations"]) == 4
    assert len(report["training"]) == 12
    assert report["selection"]["selected_by"] == "query"
    assert report["run"]["seed"] == 0


def test_a_workdir_of_another_run_is_refused_naming_the_fields(finished):
    other = make_config(optimizer__learning_rate=0.5, data__split_seed=3)
    with pytest.raises(ConfigError) as error:
        train(other, finished, StopAt())
    assert "optimizer.learning_rate: 0.002 there, 0.5 here" in str(error.value)
    assert "data.split_seed: 0 there, 3 here" in str(error.value)


def test_a_folder_with_results_of_something_else_is_refused(tmp_path):
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(ValueError, match="holds results.json but no config.json"):
        train(make_config(), tmp_path, StopAt())
    assert (tmp_path / "results.json").read_text() == "mine"


def test_a_workdir_with_a_run_of_unknown_configuration_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match=r"no config.json"):
        train(make_config(), tmp_path, StopAt())


@pytest.mark.slow
def test_several_lengths_are_trained_one_after_another_into_one_table(tmp_path, capsys):
    console.set_up()
    config = make_config(bits=(4, 8), num_epochs=1)
    entries = train(config, tmp_path, StopAt())
    assert [entry["bits"] for entry in entries] == [4, 8]
    assert json.loads((tmp_path / "results.json").read_text()) == entries
    for bits in (4, 8):
        assert (tmp_path / f"{bits}bits" / "report.json").exists()
        assert load_config(tmp_path / f"{bits}bits").bits == (bits,)
    sweep = json.loads((tmp_path / "report.json").read_text())
    assert [length["bits"] for length in sweep["lengths"]] == [4, 8]
    printed = capsys.readouterr().out
    assert results.results_table(entries) in printed
    assert "4 bits" in printed
    with pytest.raises(ConfigError, match="one code length at a time"):
        evaluate_checkpoint(config, tmp_path)


def test_one_length_and_several_do_not_share_a_workdir(finished, tmp_path):
    with pytest.raises(ConfigError, match="holds a run of one code length"):
        train(make_config(bits=(4, 8)), finished, StopAt())
    (tmp_path / "16bits").mkdir()
    (tmp_path / "16bits" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds runs of 16bits"):
        train(make_config(), tmp_path, StopAt())


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run_and_is_never_saved(tmp_path):
    config = make_config(
        optimizer__name="sgd", optimizer__learning_rate=1e38, optimizer__clip_norm=None
    )  # fmt: skip
    with pytest.raises(TrainingDivergedError, match="(?s)at step .*Try a lower learning rate"):
        train(config, tmp_path, StopAt())
    lines = [x for x in read_log(tmp_path) if x["kind"] == "train"]
    assert all(np.isfinite(x["loss"]) for x in lines)
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert steps == [0]


@pytest.mark.slow
def test_selection_on_held_out_images_never_looks_at_the_queries(tmp_path):
    config = make_config(evaluation__selected_by="validation", num_epochs=2)
    (entry,) = train(config, tmp_path, StopAt())
    assert entry["train_images"] == 900
    records = entry["evaluations"]
    best = max(records, key=lambda record: record["validation_map_expected"])
    assert entry["epoch"] == best["epoch"]
    assert entry["map_expected"] == best["map_expected"]


@pytest.mark.thorough
def test_the_last_evaluation_can_be_selected(tmp_path):
    config = make_config(evaluation__selected_by="last", num_epochs=2, loss__pairs="batch")
    (entry,) = train(config, tmp_path, StopAt())
    assert entry["epoch"] == 2
    assert entry["map_expected"] == entry["last"]["map_expected"]
    assert entry["best"]["map_expected"] >= entry["last"]["map_expected"]
