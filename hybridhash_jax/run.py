"""Training: one code length or several, from the configuration to the report."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.config_fields import Config
from hybridhash_jax.config_rules import MAY_CHANGE
from hybridhash_jax.configured import checked_run
from hybridhash_jax.description import describe
from hybridhash_jax.encode import EvaluationStopped
from hybridhash_jax.evaluators import Evaluation, Evaluator, create_evaluator
from hybridhash_jax.evaluators.collapse import warning_at_start
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import check_headers, create_dataset
from hybridhash_jax.report.files import write_sweep
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.failures import only_tells
from hybridhash_jax.runtime.interrupt import StopRequest
from hybridhash_jax.state import TrainState
from hybridhash_jax.train import TrainingLoop
from hybridhash_jax.workdir import init_note, log, names, results
from hybridhash_jax.workdir.checkpoints import (
    CheckpointError,
    CheckpointStore,
    committed_steps,
)
from hybridhash_jax.workdir.config import (
    check_kind,
    check_occupied,
    config_of_length,
    folder_of_length,
    save_config,
)
from hybridhash_jax.workdir.data_record import check_data, save_data
from hybridhash_jax.workdir.fingerprints import model_fingerprint
from hybridhash_jax.workdir.lock import check_free, held
from hybridhash_jax.workdir.selection import selected_step
from input_pipeline.dataset import Dataset

History = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a finished run left: its entry of results.json, its report, its evaluator."""

    entry: dict[str, Any]
    report: dict[str, Any]
    evaluator: Evaluator


def train(config: Config, workdir: Path, stop: StopRequest) -> list[dict[str, Any]]:
    """Trains each length of config.bits in turn and writes results; returns the entries.

    One length lives in `workdir` itself, several in `workdir/16bits` and so on. What is there
    already is gone on with. With task "classify" it is one classifier, whatever the lengths.
    """
    if config.task == "classify":
        config = config_of_length(config, config.bits[0])
    config = checked_run(config)
    check_kind(config, workdir)
    folders = {bits: folder_of_length(config, bits, workdir) for bits in config.bits}
    for bits, folder in folders.items():  # before anything is fetched
        check_free(folder, watch=True)
        check_occupied(config_of_length(config, bits), folder, MAY_CHANGE)
    dataset = create_dataset(config, folders[config.bits[0]])
    for folder in folders.values():
        check_data(folder, dataset)
    if not any(committed_steps(folder / names.CHECKPOINTS) for folder in folders.values()):
        check_headers(dataset, config)
    finished = [
        train_length(config, bits, dataset, folder, stop) for bits, folder in folders.items()
    ]
    entries = [run.entry for run in finished]
    if len(config.bits) > 1 and jax.process_index() == 0:
        results.write_results(workdir, entries)
        reports = [(f"{run.entry['bits']}bits", run.report) for run in finished]
        with only_tells(names.PAGE):
            page = write_sweep(workdir, reports, draw=config.evaluation.report)
            logger.info("report: %s", page)
    logger.info("%s\nresults: %s", finished[0].evaluator.table(entries), workdir / names.RESULTS)
    return entries


def train_length(
    config: Config, bits: int, dataset: Dataset, workdir: Path, stop: StopRequest
) -> Finished:
    """Trains one length in a workdir of its own, or goes on with it.

    Raises:
      WorkdirInUseError: another process is at work there.
      And as `create_experiment` and `TrainingLoop.run`.
    """
    experiment = create_experiment(config, dataset, bits)
    own = config_of_length(experiment.config, bits)
    with held(workdir) if jax.process_index() == 0 else contextlib.nullcontext():
        return _train_held(experiment, own, workdir, stop)


def _train_held(experiment: Experiment, own: Config, workdir: Path, stop: StopRequest) -> Finished:
    """Trains one length in a workdir that no other process holds."""
    experiment, state = start_run(experiment, own, workdir)
    logger.info("%s\nworkdir: %s", describe(experiment), workdir)
    if warning := warning_at_start(own):
        logger.warning("%s", warning)
    if not committed_steps(workdir / names.CHECKPOINTS):
        if log.read_log(workdir):
            logger.warning(
                "%s has the log of a run but no checkpoint to go on from: it starts again at step 0",
                workdir,
            )
        # A signal ends it at once, and what was computed is kept.
        experiment.open_features(state.params)
    evaluator = create_evaluator(experiment)
    evaluations = _SelectedEvaluation(evaluator, workdir, stop)
    loop = TrainingLoop(experiment, workdir, stop, evaluations.evaluate)
    try:
        with stop.heard():  # only now: before, there is nothing to save
            state, history = loop.run(state)
            selected = evaluations.of_selected(state, history, loop.store)
    finally:
        loop.store.close()
        experiment.close()
        results.list_unreadable(workdir, experiment.unreadable)
    rate = loop.total.images_per_second or results.earlier_rate(workdir)
    entry = results.results_entry(
        evaluator,
        history,
        step=evaluations.best_step(history),
        train_images_per_second=rate,
        fingerprint=model_fingerprint(state.params),
    )
    report: dict[str, Any] = {}
    if jax.process_index() == 0:
        record = selected.record
        source = f"checkpoint {record['step']} (epoch {record['epoch']:g}) of this run"
        with only_tells(names.PAGE):
            report = evaluator.write_report(workdir, selected, source, entry)
        entry |= results.measured_in_report(report)
        results.write_results(workdir, [entry])
    return Finished(entry, report, evaluator)


def start_run(experiment: Experiment, own: Config, workdir: Path) -> tuple[Experiment, TrainState]:
    """Makes the first state and writes the configuration; returns what the run starts from.

    Where the workdir has checkpoints, init.weights is not read again: they replace the parameters.
    A missing workdir is made after init.weights was found to fit.
    """
    state, loaded = experiment.create_state(), None
    resumes = bool(committed_steps(workdir / names.CHECKPOINTS))
    if not resumes:
        state, loaded = experiment.load_weights(state)
    if jax.process_index() == 0:
        save_config(workdir, own)
        save_data(workdir, experiment.dataset)
        if not resumes:
            init_note.save_init(workdir, loaded and loaded.account())
    note = init_note.load_init_note(workdir) if resumes else loaded and loaded.summary
    return experiment.starting_from(note), state


class _SelectedEvaluation:
    """Evaluates for the training loop, and keeps the evaluation that will count."""

    def __init__(self, evaluator: Evaluator, workdir: Path, stop: StopRequest):
        self.evaluator = evaluator
        self.folder = workdir / names.CODES
        self.stop = stop
        self._kept: Evaluation | None = None

    def best_step(self, history: History) -> int:
        """The step of the evaluation that evaluation.selected_by selects."""
        config = self.evaluator.experiment.config
        step = selected_step(history, config.evaluation.selected_by, config.task)
        assert step is not None
        return step

    def evaluate(self, state: TrainState, step: int, history: History) -> dict[str, Any] | None:
        """The record of an evaluation after those of `history`; None if asked to stop."""
        evaluation = self.evaluator.evaluate_with_progress(
            state, step, lambda: self.stop.requested_while_evaluating(step)
        )
        if evaluation is None:
            return None
        if self.best_step([*history, evaluation.record]) == step:
            self._keep(evaluation)
        return evaluation.record

    def of_selected(
        self, state: TrainState, history: History, store: CheckpointStore
    ) -> Evaluation:
        """The selected evaluation of a finished run; encodes again where need be."""
        step = self.best_step(history)
        if self._kept is None or self._kept.record["step"] != step:
            # This process began after that evaluation.
            record = next(record for record in history if record["step"] == step)
            kept = self.evaluator.kept(self.folder, record)
            self._keep(kept or self._again(record, state, history, store))
        assert self._kept is not None
        return self._kept

    def _keep(self, evaluation: Evaluation) -> None:
        self._kept = evaluation
        self.evaluator.keep(self.folder, evaluation)

    def _again(
        self, record: dict[str, Any], state: TrainState, history: History, store: CheckpointStore
    ) -> Evaluation:
        last = int(state.step)
        try:
            state, _ = store.restore(record["step"], state)
        except CheckpointError as error:
            record = history[-1]
            logger.warning("the selected checkpoint is gone (%s); the report is of the last", error)
        try:
            return self.evaluator.collect(
                state, record, lambda: self.stop.requested_while_evaluating(last)
            )
        except EvaluationStopped:
            self.stop.raise_interrupted(last, store.directory)
