"""Evaluation without training: of a checkpoint, of weights, or of codes that are already there."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.codes.files import load_code_sets
from hybridhash_jax.config_fields import Config, ConfigError
from hybridhash_jax.config_rules import MAY_CHANGE
from hybridhash_jax.configured import checked_run
from hybridhash_jax.description import describe
from hybridhash_jax.evaluators import Evaluation, Evaluator, create_evaluator
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.pretrained.account import NEW, Loaded
from hybridhash_jax.report.cautions import cautions
from hybridhash_jax.report.files import report_content, write_report
from hybridhash_jax.report.findings import describe_retrieval
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.state import evaluated_part
from hybridhash_jax.workdir import log, names, results
from hybridhash_jax.workdir.checkpoints import CheckpointError, CheckpointStore, committed_steps
from hybridhash_jax.workdir.config import check_one_length, check_same_run, has_config
from hybridhash_jax.workdir.data_record import change_of_data
from hybridhash_jax.workdir.init_note import load_init_note
from hybridhash_jax.workdir.selection import choose_step
from input_pipeline.atomic_file import nearest_existing
from input_pipeline.messages import shortened


def evaluate(
    config: Config, workdir: Path, which: str = "selected", output: Path | None = None
) -> dict[str, Any]:
    """`evaluate_checkpoint`; where the workdir holds no run, `evaluate_weights` of init.weights."""
    is_new = not has_config(workdir) and not committed_steps(workdir / names.CHECKPOINTS)
    if is_new and config.init.weights is not None and which == "selected":
        return evaluate_weights(config, workdir, output)
    return evaluate_checkpoint(config, workdir, which, output)


def evaluate_weights(config: Config, workdir: Path, output: Path | None = None) -> dict[str, Any]:
    """Evaluates init.weights as they are; returns the entry of results.json.

    What a run takes from features of training images before its first step is taken here as well.

    Args:
      config: of the network that the weights fit, and of the data.
      workdir: one without a run; made if it is not there.
      output: where results go; None is the workdir's folder `evaluation`.

    Raises:
      ValueError: the weights do not fit, or do not have all that is to be evaluated.
    """
    config = checked_run(config, trains=False)
    if config.task == "hash" and len(config.bits) > 1:
        raise ConfigError(
            f"bits={config.bits}; give the one code length of the weights, such as "
            f"--config.bits={config.bits[0]}"
        )
    folder = output or workdir / names.EVALUATION
    _check_writable(folder)
    dataset = create_dataset(config, workdir)
    experiment = create_experiment(config, dataset, trains=False)
    try:
        state, loaded = experiment.load_weights(experiment.create_state())
        assert loaded is not None
        _check_all_loaded(experiment, loaded)
        experiment = experiment.starting_from(loaded.summary)
        source = f"the weights {loaded.summary}"
        logger.info("%s", describe(experiment, parameters=source))
        experiment.open_features(state.params)
        state = experiment.fit(state)
        evaluator = create_evaluator(experiment)
        evaluation = evaluator.evaluate_with_progress(state, 0, epoch=0.0)
    finally:
        experiment.close()
        results.list_unreadable(folder, experiment.unreadable)
    assert evaluation is not None
    logger.info("%s: %s", config.init.weights, log.describe(evaluation.record))
    facts = {"checkpoint": None, "init_from": loaded.summary}
    return _keep_results(evaluator, evaluation, folder, source, facts)


def _check_all_loaded(experiment: Experiment, loaded: Loaded) -> None:
    """Refuses to evaluate parameters that would be random, above all a head."""
    fitted = ("feature_norm/", "hash_head/") if experiment.method.is_fitted else ("feature_norm/",)
    known = (*fitted, "method/")  # which encodes nothing
    drawn = [row for row in loaded.rows if row.action == NEW and not row.name.startswith(known)]
    if not drawn:
        return
    heads = [row for row in drawn if row.name.startswith(("head/", "hash_head/"))]
    if not heads:
        missing = shortened([row.name for row in drawn])
        what = f"{len(drawn)} parameters are not in the file ({missing}) and would be random"
        advice = "give the weights of this very network, or train from these: --mode=train"
    elif experiment.method.learns == "classes":
        what = _head_problem("head", heads[0].reason)
        advice = (
            "a classifier is evaluated on images of the classes that it was trained on, one folder "
            "each (--config.data.dir)"
        )
    else:
        what = _head_problem("hash head", heads[0].reason)
        advice = (
            "train one with --mode=train, fit one to the features with --config.method.name=itq, or "
            "give weights that hash with these --config.bits"
        )
    raise ValueError(f"init.weights={loaded.path} cannot be evaluated: {what}; {advice}")


def _head_problem(head: str, reason: str) -> str:
    fits = "does not fit" if " in the file, " in reason else "is not in the file"
    return f"the {head} {fits} ({reason})"


def _keep_results(
    evaluator: Evaluator,
    evaluation: Evaluation,
    folder: Path,
    source: str,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes codes, report and results of an evaluation; returns the entry of results.json."""
    dataset = evaluator.experiment.dataset
    entry = {
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        **evaluator.facts(),
        **facts,
        **evaluation.record,
        **results.provenance(),
    }
    evaluator.keep(folder / names.CODES, evaluation)
    if jax.process_index() == 0:
        report = evaluator.write_report(folder, evaluation, source)
        entry |= results.measured_in_report(report)
        results.write_results(folder, [entry])
    return entry


def evaluate_checkpoint(
    config: Config, workdir: Path, which: str = "selected", output: Path | None = None
) -> dict[str, Any]:
    """Evaluates one checkpoint of a workdir without training; returns the entry of results.json.

    Args:
      config: as trained; fields that change nothing about the network may differ.
      workdir: of one run.
      which: "selected" (by evaluation.selected_by), "latest", or a step.
      output: where results go; None is the workdir's folder `evaluation`, of another checkpoint
        than the selected one `evaluation-STEP`.
    """
    config = checked_run(config, trains=False)
    check_one_length(config, workdir)
    if not has_config(workdir):
        choose_step(workdir, which)  # says that there is no run
    check_same_run(config, workdir, MAY_CHANGE)
    step = choose_step(workdir, which)
    folder = output or workdir / names.evaluation(
        step, step if which == "selected" else _selected(workdir)
    )
    _check_writable(folder)
    dataset = create_dataset(config, workdir)
    if change := change_of_data(workdir, dataset):
        logger.warning("these are not the images that the run was trained on: %s", change)
    experiment = create_experiment(config, dataset).starting_from(load_init_note(workdir))
    source = f"checkpoint {step} ({which}) of {workdir}"
    if step == 0:
        logger.warning("checkpoint 0 is the untrained network")
    logger.info("%s", describe(experiment, parameters=source))
    evaluator = create_evaluator(experiment)
    store = CheckpointStore(workdir / names.CHECKPOINTS, read_only=True)
    try:
        part = evaluated_part(
            experiment.layout.state, method=experiment.method.learns_database_codes
        )
        state, meta = store.restore(step, part, whole=False)
        evaluation = evaluator.evaluate_with_progress(state, step, epoch=_epoch(step, meta))
    finally:
        store.close()
        experiment.close()
        results.list_unreadable(folder, experiment.unreadable)
    assert evaluation is not None
    logger.info("checkpoint %d: %s", step, log.describe(evaluation.record))
    return _keep_results(evaluator, evaluation, folder, source, {"checkpoint": step})


def _selected(workdir: Path) -> int | None:
    """The selected checkpoint; None where it is gone."""
    try:
        return choose_step(workdir, "selected")
    except CheckpointError:
        return None


def _epoch(step: int, meta: Mapping[str, Any]) -> float | None:
    """The epoch that a checkpoint was trained to, whatever images are evaluated now."""
    if "epoch" in meta:
        return meta["epoch"]
    return next((one["epoch"] for one in meta.get("history", ()) if one["step"] == step), None)


def _check_writable(folder: Path) -> None:
    """Refuses a place where nothing may or can be written, before hours of encoding."""
    if (folder / names.CONFIG).exists() or (folder / names.CHECKPOINTS).exists():
        raise ValueError(
            f"{folder} is the workdir of a run; give another place with --output=FOLDER"
        )
    # An evaluation that failed may leave nothing but the list of images that it could not read.
    ours = (names.RESULTS, names.REPORT, names.CODES, names.ALL_UNREADABLE)
    own = any(any(folder.glob(pattern)) for pattern in ours)
    if folder.is_dir() and not own and (other := sorted(path.name for path in folder.iterdir())):
        raise ValueError(
            f"{folder} holds other files ({shortened(other)}); give a new folder with --output=FOLDER"
        )
    there = nearest_existing(folder)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ValueError(f"{folder} cannot be written to; give another place with --output=FOLDER")


def evaluate_code_files(
    paths: str, workdir: Path, top_k: int | None = None, output: Path | None = None
) -> dict[str, Any]:
    """Measures codes that this or another program wrote; returns the content of the report.

    Args:
      paths: see `codes.files.load_code_sets`.
      workdir: made if it is not there.
      top_k: cut-off of mAP; None: what the files say, else all.
      output: where the report goes; None is `workdir`/evaluation.

    Raises:
      CodeFileError: the files cannot be used.
      ValueError: `top_k` is below 1, or the report of other codes is there.
    """
    folder = output or workdir / names.EVALUATION
    _check_writable(folder)
    other = _evaluated_before(folder)
    if other not in (None, paths):
        raise ValueError(
            f"{folder} holds the evaluation of {other}; choose another --workdir or --output"
        )
    query, database = load_code_sets(paths)
    for side, codes in (("query", query), ("database", database)):
        if len(codes) > 1 and (codes.packed == codes.packed[:1]).all():
            logger.warning("all %s codes are one and the same", side)
    cut_off = database.top_k if top_k is None else top_k
    if cut_off is not None and cut_off > len(database):
        logger.warning(
            "top_k=%d, but the database has %d images: all count", cut_off, len(database)
        )
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
        for sentence in cautions(report):
            logger.warning("%s", sentence)
        page = write_report(folder, report, {}, draw=True)
        logger.info("%s\nreport: %s", results.measured_line(report), page)
    return report


def _evaluated_before(folder: Path) -> str | None:
    """What the report of a folder is of; None where there is none."""
    try:
        return json.loads((folder / names.REPORT).read_text())["codes"]["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
