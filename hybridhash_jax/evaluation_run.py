"""Evaluation without training: of a checkpoint, or of codes that are already there."""

from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.codes.files import load_code_sets
from hybridhash_jax.config_rules import Config, check_workdir
from hybridhash_jax.evaluation_report import (
    evaluate_with_progress,
    keep_codes,
    list_unreadable,
    run_facts,
    write_evaluation,
)
from hybridhash_jax.experiment import check_run, create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.pretraining.run import evaluate_classifier
from hybridhash_jax.report.files import report_content, write_report
from hybridhash_jax.report.findings import describe_retrieval
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.workdir import results
from hybridhash_jax.workdir.checkpoints import CheckpointStore
from hybridhash_jax.workdir.contents import (
    CHECKPOINTS,
    CODES,
    CONFIG_FILE,
    EVALUATION,
    choose_step,
    load_init_note,
    only_length,
)
from hybridhash_jax.workdir.log import describe


def evaluate_checkpoint(config: Config, workdir: Path, which: str = "selected") -> dict[str, Any]:
    """Evaluates one checkpoint of a workdir without training; writes to its folder `evaluation`.

    Args:
      config: as trained; fields that change nothing about the network may differ.
      workdir: of one code length, config.bits[0].
      which: "selected" (by evaluation.selected_by), "latest", or a step.

    Returns:
      The entry of evaluation/results.json.
    """
    if config.task == "classify":
        return evaluate_classifier(config, workdir, which)
    check_run(config)
    bits = only_length(config, workdir)
    check_workdir(config, workdir / CONFIG_FILE)
    experiment = create_experiment(config, bits, create_dataset(config))
    experiment = experiment.starting_from(load_init_note(workdir))
    logger.info("%s\nworkdir: %s", experiment.describe(), workdir)
    store = CheckpointStore(workdir / CHECKPOINTS, read_only=True)
    state = experiment.create_state()
    try:
        step = choose_step(store, experiment.best_step, state, which)
        state, _ = store.restore(step, state)
        evaluation = evaluate_with_progress(experiment, state.params, step, lambda: False)
    finally:
        store.close()
        experiment.close()
        list_unreadable(experiment, workdir)
    assert evaluation is not None
    logger.info("checkpoint %d: %s", step, describe(evaluation.record))
    entry = {
        "dataset": experiment.dataset.name,
        "protocol": experiment.dataset.protocol,
        "bits": bits,
        "top_k": experiment.top_k,
        "checkpoint": step,
        **evaluation.record,
        **results.provenance(),
    }
    folder = workdir / EVALUATION
    keep_codes(folder / CODES, evaluation)
    if jax.process_index() == 0:
        report = write_evaluation(folder, experiment, evaluation, f"checkpoint {step} of {workdir}")
        entry |= results.measured_in_report(report)
        results.write_results(folder / "results.json", [entry])
    return entry


def evaluate_code_files(paths: str, workdir: Path, top_k: int | None = None) -> dict[str, Any]:
    """Measures codes that this or another program wrote; writes to `workdir`/evaluation.

    Args:
      paths: see `code_sets.load_code_sets`.
      workdir: made if it is not there.
      top_k: cut-off of mAP; None: what the files say, else all.

    Returns:
      The content of the report.

    Raises:
      CodeFileError: the files cannot be used.
      ValueError: `top_k` is below 1.
    """
    query, database = load_code_sets(paths)
    cut_off = database.top_k if top_k is None else top_k
    findings = describe_retrieval(query, database, cut_off)
    protocol = database.protocol or "codes"
    report = report_content(
        findings,
        title=f"{protocol}, {query.bits} bits",
        dataset={"name": paths, "protocol": protocol},
        codes={"source": paths, "fingerprint": query.fingerprint},
        run=run_facts(),
    )
    folder = workdir / EVALUATION
    if jax.process_index() == 0:
        page = write_report(folder, report, {}, draw=True)
        logger.info("%s\nreport: %s", results.measured_line(report), page)
    return report
