"""What an evaluation leaves behind: codes, a report, and a list of images that were left out."""

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from hybridhash_jax.codes.files import SIDES, save_codes
from hybridhash_jax.encode import EncodingStopped
from hybridhash_jax.evaluate import Evaluation, evaluate
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.report.files import report_content, write_report
from hybridhash_jax.report.findings import describe_retrieval, shown_images
from hybridhash_jax.run_plan import RunPlan
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.workdir import results
from hybridhash_jax.workdir.log import read_log
from input_pipeline.images.thumbnails import load_thumbnails

_DRAWN_STEPS = 1000
_TIMES = ("encode_seconds", "metric_seconds", "images_per_second")


def evaluate_with_progress(
    experiment: Experiment, params: Any, step: int, should_stop: Callable[[], bool]
) -> Evaluation | None:
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


def keep_codes(folder: Path, evaluation: Evaluation) -> None:
    """Writes query.npz and database.npz; only the first process does."""
    if jax.process_index() == 0:
        for side, codes in zip(SIDES, (evaluation.query, evaluation.database), strict=True):
            save_codes(folder / f"{side}.npz", codes)


def write_evaluation(
    workdir: Path,
    experiment: Experiment,
    evaluation: Evaluation,
    source: str,
    entry: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the report of an evaluation, and says where it is.

    Args:
      workdir: where to.
      experiment: what the codes were made with.
      evaluation: its codes and numbers.
      source: what the codes were made by, in words.
      entry: `results.results_entry` of a finished training run, which is then told of as well.

    Returns:
      The report's content.
    """
    config, dataset, record = experiment.config, experiment.dataset, evaluation.record
    findings = describe_retrieval(evaluation.query, evaluation.database, experiment.top_k)
    more = _training(workdir, entry) if entry else {}
    times = {name: record[name] for name in _TIMES}
    report = report_content(
        findings,
        title=f"{dataset.protocol}, {experiment.bits} bits, {config.model.variant}",
        dataset={
            "name": dataset.name,
            "protocol": dataset.protocol,
            "provenance": dataset.provenance,
            "official": dataset.official,
            "checksum": dataset.checksum,
            "split_seed": config.data.split_seed,
            "unreadable": len(experiment.unreadable.reasons),
        },
        codes={"source": source, "fingerprint": evaluation.query.fingerprint},
        run={
            **run_facts(),
            "seed": config.seed,
            "variant": config.model.variant,
            "parameters": experiment.num_parameters,
            "init_from": experiment.init_note,
        },
        times=times | more.pop("times", {}),
        **more,
    )
    images = {}
    if config.evaluation.report:
        images = load_thumbnails(dataset.images, shown_images(findings))
    page = write_report(workdir, report, images, draw=config.evaluation.report)
    logger.info("report: %s", page)
    return report


def run_facts() -> dict[str, Any]:
    """Where, with what and when a number was measured."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {**results.provenance(), "date": today}


def list_unreadable(experiment: RunPlan, workdir: Path) -> None:
    """Each process lists what it met; what was left out must be known to who reads the results."""
    if not experiment.unreadable.reasons:
        return
    process = f"-{jax.process_index()}" if jax.process_count() > 1 else ""
    path = workdir / f"unreadable{process}.txt"
    count = results.write_unreadable(path, experiment.unreadable)
    logger.warning(
        "%d images could not be read: replaced in training, left out of the metrics. Which and "
        "why: %s",
        count,
        path,
    )


def drawn_steps(workdir: Path) -> list[dict[str, float]]:
    """Epoch, loss and learning rate of logged steps, some 1,000 of them, for training.png."""
    steps = [line for line in read_log(workdir) if line["kind"] == "train"]
    every = max(1, len(steps) // _DRAWN_STEPS)
    names = ("epoch", "loss", "learning_rate")
    return [{name: line[name] for name in names} for line in steps[::every]]


def _training(workdir: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "training": drawn_steps(workdir),
        "evaluations": [
            {name: value for name, value in record.items() if name == "epoch" or "map" in name}
            for record in entry["evaluations"]
        ],
        "selection": {name: entry[name] for name in ("selected_by", "epoch", "best", "last")},
        "times": {"train_images_per_second": entry["train_images_per_second"]},
    }
