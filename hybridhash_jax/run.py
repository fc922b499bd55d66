"""The two modes of the program: train (one or several code lengths) and evaluate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from hybridhash_jax import report
from hybridhash_jax.checkpoint import (
    CheckpointError,
    CheckpointStore,
    committed_steps,
    fingerprint,
    flatten,
)
from hybridhash_jax.config_rules import Config, ConfigError, check_config, check_workdir, to_json
from hybridhash_jax.console import logger
from hybridhash_jax.evaluate import EncodingStopped, evaluate
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.interrupt import StopRequest
from hybridhash_jax.run_log import describe
from hybridhash_jax.train import TrainingLoop
from input_pipeline.dataset import Dataset
from input_pipeline.datasets import FolderSplits, ListFiles, load_dataset

CONFIG_FILE, RESULTS_FILE, CHECKPOINTS = "config.json", "results.json", "checkpoints"


def train(config: Config, workdir: Path, stop: StopRequest) -> list[dict[str, Any]]:
    """Trains each length of config.bits in turn and writes results; returns the entries.

    One length lives in `workdir` itself, several in `workdir/16bits` and so on. What is there
    already is gone on with.
    """
    check_config(config)
    _check_layout(config, workdir)
    dataset = _load_dataset(config)
    entries = []
    for bits in config.bits:
        directory = workdir if len(config.bits) == 1 else workdir / f"{bits}bits"
        entries.append(_train_length(config, bits, dataset, directory, stop))
    if len(config.bits) > 1 and jax.process_index() == 0:
        report.write_results(workdir / RESULTS_FILE, entries)
    logger.info("%s\nresults: %s", report.results_table(entries), workdir / RESULTS_FILE)
    return entries


def _train_length(
    config: Config, bits: int, dataset: Dataset, workdir: Path, stop: StopRequest
) -> dict[str, Any]:
    experiment = create_experiment(config, bits, dataset)
    own = _of_one_length(config, bits)
    _check_occupied(own, workdir)
    # Also before the workdir is touched: a file to start from may turn out not to fit.
    resumes = bool(committed_steps(workdir / CHECKPOINTS))
    state = experiment.create_state(load_init=not resumes)
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / CONFIG_FILE).write_text(to_json(own))
    logger.info("%s\nworkdir: %s", experiment.describe(), workdir)
    loop = TrainingLoop(
        experiment,
        workdir,
        stop,
        lambda params, step: _evaluate_with_progress(
            experiment, params, step, lambda: jax.process_count() == 1 and stop.requested(step)
        ),
    )
    stop.install()  # only now: while data are fetched, Ctrl-C ends the program at once
    try:
        state, history = loop.run(state)
    finally:
        loop.store.close()
        experiment.close()
        _report_unreadable(experiment, workdir)
    sums = fingerprint(flatten(state.params)).values()
    entry = report.results_entry(
        experiment,
        history,
        train_images_per_second=loop.total.images_per_second
        or _earlier_rate(workdir / RESULTS_FILE),
        fingerprint=sum(sums) % 2**32,
    )
    if jax.process_index() == 0:
        report.write_results(workdir / RESULTS_FILE, [entry])
        plot = report.plot_training(workdir, _title(experiment))
        logger.info("plot: %s", plot)
    return entry


def evaluate_checkpoint(config: Config, workdir: Path, which: str = "selected") -> dict[str, Any]:
    """Evaluates one checkpoint of a workdir without training; writes evaluation.json.

    Args:
      config: as trained; fields that change nothing about the network may differ.
      workdir: of one code length, config.bits[0].
      which: "selected" (by evaluation.selected_by), "latest", or a step.
    """
    check_config(config)
    bits = _only_length(config, workdir)
    check_workdir(config, workdir / CONFIG_FILE)
    experiment = create_experiment(config, bits, _load_dataset(config))
    logger.info("%s\nworkdir: %s", experiment.describe(), workdir)
    store = CheckpointStore(workdir / CHECKPOINTS, read_only=True)
    state = experiment.create_state(load_init=False)
    try:
        step = _choose_step(store, experiment, state, which)
        state, _ = store.restore(step, state)
        record = _evaluate_with_progress(experiment, state.params, step, lambda: False)
    finally:
        store.close()
        experiment.close()
        _report_unreadable(experiment, workdir)
    assert record is not None
    logger.info("checkpoint %d: %s", step, describe(record))
    entry = {
        "dataset": experiment.dataset.name,
        "protocol": experiment.dataset.protocol,
        "bits": bits,
        "top_k": experiment.top_k,
        "checkpoint": step,
        **record,
        **report.provenance(),
    }
    if jax.process_index() == 0:
        report.write_results(workdir / "evaluation.json", [entry])
    return entry


def load_config(workdir: Path) -> Config:
    """The configuration that a workdir was trained with."""
    path = workdir / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). --mode=evaluate needs a workdir that --mode=train "
            "wrote (for a sweep over lengths, one of its subfolders such as 32bits)."
        ) from None
    return ConfigDict(_with_tuples(values)).lock()


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(entry) for name, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _choose_step(store: CheckpointStore, experiment: Experiment, state: Any, which: str) -> int:
    steps = store.steps()
    if not steps:
        raise CheckpointError(f"there is no checkpoint in {store.directory}; train first")
    if which.isdigit():
        return int(which)
    if which == "latest":
        return steps[-1]
    if which != "selected":
        raise ConfigError(f"--checkpoint={which}; accepted: selected, latest, or one of {steps}")
    _, meta = store.restore(steps[-1], state)
    best = experiment.best_step(meta["history"])
    return best if best in steps else steps[-1]


def _only_length(config: Config, workdir: Path) -> int:
    if len(config.bits) > 1:
        names = ", ".join(f"{workdir}/{bits}bits" for bits in config.bits)
        raise ConfigError(f"evaluate one code length at a time: --workdir one of {names}")
    return config.bits[0]


def _load_dataset(config: Config) -> Dataset:
    data = config.data
    return load_dataset(
        data.name,
        data.protocol,
        source=data.source,
        directory=data.dir,
        split_seed=data.split_seed,
        download=data.download,
        lists=ListFiles(data.lists, data.train_list, data.query_list, data.database_list),
        folder=FolderSplits(data.query_per_class, data.train_per_class, data.database),
    )


def _report_unreadable(experiment: Experiment, workdir: Path) -> None:
    """Each process lists what it met; what was left out must be known to who reads the results."""
    if not experiment.unreadable.reasons:
        return
    process = f"-{jax.process_index()}" if jax.process_count() > 1 else ""
    path = workdir / f"unreadable{process}.txt"
    count = report.write_unreadable(path, experiment.unreadable)
    logger.warning(
        "%d images could not be read: replaced in training, left out of the metrics. Which and "
        "why: %s",
        count,
        path,
    )


def _check_layout(config: Config, workdir: Path) -> None:
    """One length or several in a workdir, not both: their results.json would be the same file."""
    sweep = sorted(path.parent.name for path in workdir.glob(f"*bits/{CONFIG_FILE}"))
    single = (workdir / CONFIG_FILE).exists()
    if (len(config.bits) > 1 and single) or (len(config.bits) == 1 and sweep):
        there = "a run of one code length" if single else f"runs of {', '.join(sweep)}"
        raise ConfigError(
            f"{workdir} holds {there}; choose another --workdir for bits={config.bits}"
        )


def _of_one_length(config: Config, bits: int) -> Config:
    own = ConfigDict(config.to_dict())
    own.bits = (bits,)
    return own


def _check_occupied(config: Config, workdir: Path) -> None:
    """Lets an empty workdir pass, or one that holds this very run."""
    path = workdir / CONFIG_FILE
    if path.exists():
        check_workdir(config, path)
    elif any((workdir / name).exists() for name in (CHECKPOINTS, "metrics.jsonl")):
        raise ConfigError(
            f"{workdir} holds parts of a run but no {CONFIG_FILE} that says which; choose another "
            "workdir"
        )


def _evaluate_with_progress(
    experiment: Experiment, params: Any, step: int, should_stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """`evaluate` under a progress bar; None if it was asked to stop."""
    splits = experiment.dataset.splits
    total = len(splits.query) + len(splits.database)
    if len(experiment.held_out):
        total += len(experiment.held_out) + len(experiment.train_rows)
    quiet = None if jax.process_index() == 0 else True  # None: only on a terminal
    with tqdm(total=total, desc="encoding", unit="img", leave=False, disable=quiet) as bar:
        try:
            return evaluate(experiment, params, step, should_stop=should_stop, on_images=bar.update)
        except EncodingStopped:
            return None


def _earlier_rate(path: Path) -> float | None:
    """The training speed of an earlier process of the same, already finished run."""
    try:
        return json.loads(path.read_text())[0]["train_images_per_second"]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _title(experiment: Experiment) -> str:
    config = experiment.config
    return f"{config.model.variant}, {experiment.bits} bits, {experiment.dataset.protocol}"
