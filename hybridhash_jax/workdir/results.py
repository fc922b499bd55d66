"""The numbers of a run: results.json, one table, and where they were measured."""

import datetime
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.processor import processor_name
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.selection import best_record
from input_pipeline.atomic_file import write_atomically, write_json
from input_pipeline.images.unreadable import Unreadable
from input_pipeline.messages import counted

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def results_entry(
    evaluator: Any,
    history: Sequence[dict[str, Any]],
    *,
    step: int,
    train_images_per_second: float | None,
    fingerprint: str,
) -> dict[str, Any]:
    """A run's entry of results.json: the selected evaluation (at `step`), the best and the last.

    `fingerprint` is the final parameters' checksum: equal in two runs that are bit-identical.
    """
    experiment = evaluator.experiment
    config, dataset = experiment.config, experiment.dataset
    main, columns = evaluator.measured[0], ("epoch", *evaluator.measured)
    selected = next(record for record in history if record["step"] == step)
    best = best_record(history, main)
    return {
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        **evaluator.facts(),
        **{name: selected[name] for name in (*columns, *evaluator.told)},
        "selected_by": config.evaluation.selected_by,
        "best": {name: best[name] for name in columns},
        "last": {name: history[-1][name] for name in columns},
        "evaluate_seconds": selected["evaluate_seconds"],
        "unreadable_images": len(experiment.unreadable.reasons),
        "train_images": len(experiment.train_rows),
        "train_images_per_second": train_images_per_second,
        "images_trained": _images_trained(experiment),
        "features": experiment.vectors_id,
        "seed": config.seed,
        "split_seed": config.data.split_seed,
        "variant": config.model.variant,
        "parameters": experiment.num_parameters,
        "init_from": experiment.init_note,
        "dataset_official": dataset.official,
        "dataset_provenance": dataset.provenance,
        "dataset_checksum": dataset.checksum,
        "parameters_fingerprint": fingerprint,
        "evaluations": list(history),
        **provenance(),
    }


def _images_trained(experiment: Any) -> int:
    """Over all steps; none of a fitted method."""
    if experiment.method.is_fitted:
        return 0
    steps = range(experiment.steps_per_epoch)
    return experiment.config.num_epochs * sum(map(experiment.order.images_in, steps))


def provenance() -> dict[str, Any]:
    """Where and with what a number was measured: command, device, processor, versions."""
    device = jax.devices()[0]
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "cpu": processor_name(),
        "processes": jax.process_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def run_facts() -> dict[str, Any]:
    """Where, with what and when a number was measured."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {**provenance(), "date": today}


def earlier_rate(workdir: Path) -> float | None:
    """The training speed of an earlier process of the same, already finished run."""
    try:
        return json.loads((workdir / names.RESULTS).read_text())[0]["train_images_per_second"]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def list_unreadable(workdir: Path, unreadable: Unreadable) -> None:
    """Adds the images that this process could not read to the workdir's list, and says so.

    A line an image, sorted: its name, a tab, the reason.
    """
    if not unreadable.reasons:
        return
    several = jax.process_count() > 1
    path = workdir / names.unreadable(jax.process_index() if several else None)
    lines = set(path.read_text().splitlines()) if path.exists() else set()
    lines |= {
        f"{unreadable.names[row]}\t{' '.join(reason.split())}"
        for row, reason in unreadable.reasons.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(line + "\n" for line in sorted(lines)).encode())
    logger.warning(
        "%s could not be read: replaced in training, left out of the metrics. Which and why: %s",
        counted(len(lines), "image"),
        path,
    )


def measured_in_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report measured beyond an evaluation's record; nothing where there is no report."""
    if not report:
        return {}
    return {
        "map_optimistic": report["map"]["optimistic"],
        "map_pessimistic": report["map"]["pessimistic"],
        "map_of_random_order": report["chance"],
        "precision_at_radius_2": report["radius_2"]["precision"],
        "empty_balls_at_radius_2": report["radius_2"]["empty_share"],
        **(report["graded"] or {}),
    }


def measured_line(report: Mapping[str, Any]) -> str:
    """The main numbers of a report in one line."""
    found, ball = report["map"], report["radius_2"]
    at = "all" if report["top_k"] is None else report["top_k"]
    return (
        f"{report['dataset']['queries']:,} queries, {report['dataset']['database']:,} database "
        f"images, {report['bits']} bits: mAP@{at} {found['expected']:.4f} (expected over ties; "
        f"{found['pessimistic']:.4f} to {found['optimistic']:.4f}), {found['stable']:.4f} (stable), "
        f"{report['chance']:.4f} in random order; P@H<=2 {ball['precision']:.4f}, "
        f"{ball['empty_share']:.1%} of balls empty"
    )


def write_results(workdir: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Writes the list of entries, an entry a run, in one move; the folder is made if need be."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / names.RESULTS, list(entries))


def results_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The results as a table, one line a code length: the best and the last evaluation."""
    top_k = entries[0]["top_k"]
    selected_by = entries[0]["selected_by"]
    at = "all" if top_k is None else str(top_k)
    title = (
        f"{entries[0]['protocol']}: mAP@{at} in the expectation over ties, of the selected "
        f"(by: {selected_by}), the best on the queries, and the last evaluation"
    )
    columns = ("selected", "epoch", "best", "epoch", "last", "epoch", "stable", "images/s")
    rows = [title, f"{'bits':>5}" + "".join(f"{name:>10}" for name in columns)]
    for entry in entries:
        best, last, rate = entry["best"], entry["last"], entry["train_images_per_second"]
        cells = [f"{entry['map_expected']:.4f}", f"{entry['epoch']:g}"]
        for other in (best, last):
            cells += [f"{other['map_expected']:.4f}", f"{other['epoch']:g}"]
        cells += [f"{entry['map_stable']:.4f}", f"{rate:,.0f}" if rate else "-"]
        rows.append(f"{entry['bits']:>5}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(rows)
