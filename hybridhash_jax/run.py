"""Training: one code length or several, from the configuration to the report."""

from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.codes.files import CodeFileError, load_code_sets
from hybridhash_jax.config_rules import Config
from hybridhash_jax.encode import EncodingStopped
from hybridhash_jax.evaluate import Evaluation, encode_sides, model_fingerprint
from hybridhash_jax.evaluation_report import (
    evaluate_with_progress,
    keep_codes,
    list_unreadable,
    write_evaluation,
)
from hybridhash_jax.experiment import Experiment, check_run, create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.pretraining.run import train_classifier
from hybridhash_jax.report.files import write_sweep
from hybridhash_jax.run_start import start_run
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.interrupt import StopRequest
from hybridhash_jax.state import TrainState
from hybridhash_jax.train import TrainingLoop
from hybridhash_jax.workdir import results
from hybridhash_jax.workdir.checkpoints import CheckpointError
from hybridhash_jax.workdir.contents import (
    CODES,
    RESULTS_FILE,
    check_layout,
    check_occupied,
    config_of_length,
    folder_of_length,
)
from input_pipeline.dataset import Dataset


def train(config: Config, workdir: Path, stop: StopRequest) -> list[dict[str, Any]]:
    """Trains each length of config.bits in turn and writes results; returns the entries.

    One length lives in `workdir` itself, several in `workdir/16bits` and so on. What is there
    already is gone on with. With task "classify" it is one classifier, whatever the lengths.
    """
    if config.task == "classify":
        return [train_classifier(config, workdir, stop)]
    check_run(config)
    check_layout(config, workdir)
    dataset = create_dataset(config)
    entries, reports = [], []
    for bits in config.bits:
        folder = folder_of_length(config, bits, workdir)
        entry, report = _train_length(config, bits, dataset, folder, stop)
        entries.append(entry)
        reports.append((folder.name, report))
    if len(config.bits) > 1 and jax.process_index() == 0:
        results.write_results(workdir / RESULTS_FILE, entries)
        page = write_sweep(workdir, reports, draw=config.evaluation.report)
        logger.info("report: %s", page)
    logger.info("%s\nresults: %s", results.results_table(entries), workdir / RESULTS_FILE)
    return entries


def _train_length(
    config: Config, bits: int, dataset: Dataset, workdir: Path, stop: StopRequest
) -> tuple[dict[str, Any], dict[str, Any]]:
    experiment = create_experiment(config, bits, dataset)
    own = config_of_length(config, bits)
    check_occupied(own, workdir)
    experiment, state = start_run(experiment, own, workdir)
    logger.info("%s\nworkdir: %s", experiment.describe(), workdir)
    codes = _SelectedCodes(experiment, workdir, stop)
    loop = TrainingLoop(experiment, workdir, stop, codes.evaluate)
    codes.loop = loop
    stop.install()  # only now: while data are fetched, Ctrl-C ends the program at once
    try:
        state, history = loop.run(state)
        selected = codes.of_selected(state)
    finally:
        loop.store.close()
        experiment.close()
        list_unreadable(experiment, workdir)
    entry = results.results_entry(
        experiment,
        history,
        train_images_per_second=loop.total.images_per_second
        or results.earlier_rate(workdir / RESULTS_FILE),
        fingerprint=model_fingerprint(state.params),
    )
    report: dict[str, Any] = {}
    if jax.process_index() == 0:
        step = selected.record["step"]
        source = f"checkpoint {step} (epoch {selected.record['epoch']:g}) of this run"
        report = write_evaluation(workdir, experiment, selected, source, entry)
        entry |= results.measured_in_report(report)
        results.write_results(workdir / RESULTS_FILE, [entry])
    return entry, report


class _SelectedCodes:
    """Evaluates for the training loop, and keeps the codes of the evaluation that will count."""

    loop: TrainingLoop

    def __init__(self, experiment: Experiment, workdir: Path, stop: StopRequest):
        self.experiment = experiment
        self.folder = workdir / CODES
        self.stop = stop
        self._kept: Evaluation | None = None

    def evaluate(self, params: Any, step: int) -> dict[str, Any] | None:
        """An evaluation's record; None if a signal asked to stop."""
        evaluation = evaluate_with_progress(
            self.experiment,
            params,
            step,
            lambda: self.stop.requested_while_evaluating(step),
        )
        if evaluation is None:
            return None
        if self.experiment.best_step([*self.loop.history, evaluation.record]) == step:
            self._keep(evaluation)
        return evaluation.record

    def of_selected(self, state: TrainState) -> Evaluation:
        """The evaluation that evaluation.selected_by selects; encodes again where need be."""
        step = self.experiment.best_step(self.loop.history)
        if self._kept is not None and self._kept.record["step"] == step:
            return self._kept
        # This process began after that evaluation.
        record = next(record for record in self.loop.history if record["step"] == step)
        self._keep(self._from_disk(record) or self._again(record, state))
        assert self._kept is not None
        return self._kept

    def _keep(self, evaluation: Evaluation) -> None:
        self._kept = evaluation
        keep_codes(self.folder, evaluation)

    def _from_disk(self, record: dict[str, Any]) -> Evaluation | None:
        if jax.process_count() > 1:
            return None  # processes must do the same, and may not see the same disk
        try:
            query, database = load_code_sets(str(self.folder))
        except CodeFileError:
            return None
        same = query.fingerprint == record.get("parameters_fingerprint")
        return Evaluation(record, query, database) if same else None

    def _again(self, record: dict[str, Any], state: TrainState) -> Evaluation:
        last = int(state.step)
        try:
            state, _ = self.loop.store.restore(record["step"], state)
        except CheckpointError as error:
            record = self.loop.history[-1]
            logger.warning("the selected checkpoint is gone (%s); the report is of the last", error)
        try:
            query, database = encode_sides(
                self.experiment, state.params, lambda: self.stop.requested_while_evaluating(last)
            )
        except EncodingStopped:
            self.stop.raise_interrupted(last, self.loop.store.directory)
        return Evaluation(record, query, database)
