"""Pre-training from the configuration to the results, and evaluation without training."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from hybridhash_jax.config_rules import Config, check_workdir
from hybridhash_jax.evaluate import model_fingerprint
from hybridhash_jax.evaluation_report import drawn_steps, list_unreadable
from hybridhash_jax.experiment import check_run
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.pretraining.evaluate import EvaluationStopped, measure_classifier
from hybridhash_jax.pretraining.experiment import (
    ClassificationExperiment,
    create_classification_experiment,
)
from hybridhash_jax.report import figures
from hybridhash_jax.run_start import start_run
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.interrupt import StopRequest
from hybridhash_jax.train import TrainingLoop
from hybridhash_jax.workdir import results
from hybridhash_jax.workdir.checkpoints import CheckpointStore
from hybridhash_jax.workdir.contents import (
    CHECKPOINTS,
    CONFIG_FILE,
    EVALUATION,
    RESULTS_FILE,
    check_occupied,
    choose_step,
)
from hybridhash_jax.workdir.log import describe

_MEASURED = ("epoch", "top1", "top5")


def train_classifier(config: Config, workdir: Path, stop: StopRequest) -> dict[str, Any]:
    """Trains, or goes on with, the classifier of one workdir; returns its entry of results.json.

    Hashing starts from it with --config.init.from=WORKDIR.

    Raises:
      ValueError: what the configuration or the data cannot be used for.
    """
    check_run(config)
    experiment = create_classification_experiment(config, create_dataset(config))
    check_occupied(config, workdir)
    experiment, state = start_run(experiment, config, workdir)
    logger.info("%s\nworkdir: %s", experiment.describe(), workdir)

    def evaluate(params: Any, step: int) -> dict[str, Any] | None:
        return _evaluate(experiment, params, step, lambda: stop.requested_while_evaluating(step))

    loop = TrainingLoop(experiment, workdir, stop, evaluate)
    stop.install()  # only now: while data are fetched, Ctrl-C ends the program at once
    try:
        state, history = loop.run(state)
    finally:
        loop.store.close()
        experiment.close()
        list_unreadable(experiment, workdir)
    entry = results_entry(experiment, history) | {
        "train_images_per_second": loop.total.images_per_second
        or results.earlier_rate(workdir / RESULTS_FILE),
        "parameters_fingerprint": model_fingerprint(state.params),
        **results.provenance(),
    }
    if jax.process_index() == 0:
        results.write_results(workdir / RESULTS_FILE, [entry])
        if config.evaluation.report:
            _draw(experiment, history, workdir)
    logger.info("%s\nresults: %s", _summary(entry), workdir / RESULTS_FILE)
    logger.info("hashing starts from it with --config.init.from=%s", workdir)
    return entry


def evaluate_classifier(config: Config, workdir: Path, which: str = "selected") -> dict[str, Any]:
    """Measures one checkpoint of a workdir without training; writes to its folder `evaluation`.

    Args:
      config: as trained; fields that change nothing about the network may differ.
      workdir: of a classifier.
      which: "selected" (by evaluation.selected_by), "latest", or a step.

    Returns:
      The entry of evaluation/results.json.
    """
    check_run(config)
    check_workdir(config, workdir / CONFIG_FILE)
    experiment = create_classification_experiment(config, create_dataset(config))
    store = CheckpointStore(workdir / CHECKPOINTS, read_only=True)
    state = experiment.create_state()
    try:
        step = choose_step(store, experiment.best_step, state, which)
        state, _ = store.restore(step, state)
        record = _evaluate(experiment, state.evaluated_params, step, lambda: False)
    finally:
        store.close()
        experiment.close()
        list_unreadable(experiment, workdir)
    assert record is not None
    logger.info("checkpoint %d: %s", step, describe(record))
    dataset = experiment.dataset.name
    entry = {"task": "classify", "dataset": dataset, "checkpoint": step, **record}
    entry |= results.provenance()
    if jax.process_index() == 0:
        (workdir / EVALUATION).mkdir(parents=True, exist_ok=True)
        results.write_results(workdir / EVALUATION / RESULTS_FILE, [entry])
    return entry


def results_entry(
    experiment: ClassificationExperiment, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A run's entry of results.json without times: the selected evaluation, the best, the last."""
    config, dataset = experiment.config, experiment.dataset
    step = experiment.best_step(history)
    selected = next(record for record in history if record["step"] == step)
    best = max(history, key=lambda record: record["top1"])
    return {
        "task": "classify",
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        "classes": experiment.num_classes,
        **{name: selected[name] for name in (*_MEASURED, "loss", "validation")},
        "evaluate_seconds": selected["evaluate_seconds"],
        "selected_by": config.evaluation.selected_by,
        "best": {name: best[name] for name in _MEASURED},
        "last": {name: history[-1][name] for name in _MEASURED},
        "averaged_parameters": config.pretraining.ema_decay > 0,
        "train_images": len(experiment.train_rows),
        "unreadable_images": len(experiment.unreadable.reasons),
        "seed": config.seed,
        "split_seed": config.data.split_seed,
        "variant": config.model.variant,
        "parameters": experiment.num_parameters,
        "init_from": experiment.init_note,
        "dataset_official": dataset.official,
        "dataset_provenance": dataset.provenance,
        "dataset_checksum": dataset.checksum,
        "evaluations": list(history),
    }


def _evaluate(
    experiment: ClassificationExperiment,
    params: Any,
    step: int,
    should_stop: Callable[[], bool],
) -> dict[str, Any] | None:
    """An evaluation's record, under a progress bar; None if it was asked to stop."""
    rows = experiment.validation_rows
    quiet = None if jax.process_index() == 0 else True  # None: only on a terminal
    with (
        tqdm(total=len(rows), desc="evaluating", unit="img", leave=False, disable=quiet) as bar,
        contextlib.closing(experiment.eval_batches(rows)) as batches,
    ):
        try:
            measured = measure_classifier(
                experiment.measure,
                params,
                batches,
                experiment.mesh,
                should_stop=should_stop,
                on_images=bar.update,
            )
        except EvaluationStopped:
            return None
    return {
        "step": step,
        "epoch": step / experiment.steps_per_epoch,
        **measured,
        "parameters_fingerprint": model_fingerprint(params),
    }


def _draw(
    experiment: ClassificationExperiment, history: Sequence[Mapping[str, Any]], workdir: Path
) -> None:
    drawn = {
        "title": f"{experiment.dataset.name}, {experiment.config.model.variant} as a classifier",
        "training": drawn_steps(workdir),
        "evaluations": history,
    }
    figures.plot_classification(drawn, workdir / "training.png")


def _summary(entry: Mapping[str, Any]) -> str:
    lines = [
        f"{name:>8}: top-1 {found['top1']:.4f}, top-5 {found['top5']:.4f} at epoch "
        f"{found['epoch']:g}"
        for name, found in (("selected", entry), ("best", entry["best"]), ("last", entry["last"]))
    ]
    return "\n".join([f"{entry['dataset']}, {entry['variant']}", *lines])
