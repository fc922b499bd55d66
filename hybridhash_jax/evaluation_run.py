"""Evaluation without training: of a checkpoint, or of codes that are already there."""

from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.codes.files import load_code_sets
from hybridhash_jax.config_fields import Config
from hybridhash_jax.config_rules import MAY_CHANGE
from hybridhash_jax.configured import check_run
from hybridhash_jax.description import describe
from hybridhash_jax.evaluators import create_evaluator
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.report.files import report_content, write_report
from hybridhash_jax.report.findings import describe_retrieval
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.workdir import log, names, results
from hybridhash_jax.workdir.checkpoints import CheckpointStore
from hybridhash_jax.workdir.config import check_one_length, check_same_run
from hybridhash_jax.workdir.init_note import load_init_note
from hybridhash_jax.workdir.selection import choose_step


def evaluate_checkpoint(config: Config, workdir: Path, which: str = "selected") -> dict[str, Any]:
    """Evaluates one checkpoint of a run without training; writes to its folder `evaluation`.

    `config` is as trained, but for fields that change nothing about the network; `which` is as
    for `choose_step`. Returns the entry of evaluation/results.json.
    """
    check_run(config)
    check_one_length(config, workdir)
    check_same_run(config, workdir, MAY_CHANGE)
    step = choose_step(workdir, which)
    experiment = create_experiment(config, create_dataset(config))
    experiment = experiment.starting_from(load_init_note(workdir))
    logger.info("%s\nworkdir: %s", describe(experiment), workdir)
    evaluator = create_evaluator(experiment)
    store = CheckpointStore(workdir / names.CHECKPOINTS, read_only=True)
    try:
        state, _ = store.restore(step, experiment.create_state())
        evaluation = evaluator.evaluate_with_progress(state, step)
    finally:
        store.close()
        experiment.close()
        results.list_unreadable(workdir, experiment.unreadable)
    assert evaluation is not None
    logger.info("checkpoint %d: %s", step, log.describe(evaluation.record))
    entry = {
        "dataset": experiment.dataset.name,
        "protocol": experiment.dataset.protocol,
        **evaluator.facts(),
        "checkpoint": step,
        **evaluation.record,
        **results.provenance(),
    }
    folder = workdir / names.EVALUATION
    evaluator.keep(folder / names.CODES, evaluation)
    if jax.process_index() == 0:
        report = evaluator.write_report(folder, evaluation, f"checkpoint {step} of {workdir}")
        entry |= results.measured_in_report(report)
        results.write_results(folder, [entry])
    return entry


def evaluate_code_files(paths: str, workdir: Path, top_k: int | None = None) -> dict[str, Any]:
    """Measures codes that this or another program wrote; writes to `workdir`/evaluation.

    `paths` and errors are those of `codes.files.load_code_sets`; `top_k` is the cut-off of mAP,
    None what the files say, else all. Returns the content of the report.
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
        run=results.run_facts(),
    )
    if jax.process_index() == 0:
        page = write_report(workdir / names.EVALUATION, report, {}, draw=True)
        logger.info("%s\nreport: %s", results.measured_line(report), page)
    return report
