"""Writes the report of an evaluation, and of several code lengths: JSON, pictures, a page."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridhash_jax.report import figures, page, published, retrieval_grid, sweep_figure
from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_atomically, write_json

_OF_THE_DATA = ("queries", "database", "classes", "labels_per_image")


def report_content(
    findings: Mapping[str, Any],
    *,
    title: str,
    dataset: Mapping[str, Any],
    codes: Mapping[str, Any],
    run: Mapping[str, Any],
    baselines: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Joins what `findings.describe_retrieval` found with where it comes from.

    `dataset` has name and protocol, `codes` the source and, where known, the model's fingerprint,
    `run` command, versions, device and seed; `more` evaluations, training, selection, times.
    `baselines` are other rankings of the same queries and database, each with name ("cosine of the
    features"), map_expected at the same cut-off, dimensions and bytes_per_image.
    """
    measured = {name: value for name, value in findings.items() if name not in _OF_THE_DATA}
    protocol = str(dataset.get("protocol"))
    known = published.published_for(protocol, findings["top_k"], run.get("method"))
    return {
        "title": title,
        "dataset": {**dataset, **{name: findings[name] for name in _OF_THE_DATA}},
        "codes": dict(codes),
        **measured,
        **({"baselines": [dict(baseline) for baseline in baselines]} if baselines else {}),
        **more,
        "published": [entry for entry in known if entry["bits"] == findings["bits"]],
        "run": dict(run),
    }


def write_report(
    directory: Path, report: Mapping[str, Any], images: Mapping[int, np.ndarray], *, draw: bool
) -> Path:
    """Writes report.json and, with `draw`, the pictures and report.html; returns the last written.

    `images` are uint8 [h, w, 3] by row of the data set, as far as they are at hand.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / names.REPORT, report)
    if not draw:
        return directory / names.REPORT
    ways: dict[str, Callable[[Any, figures.Target], None]] = {
        "pr_curve.png": figures.plot_precision_recall,
        "precision_at_n.png": figures.plot_precision_at_n,
        "bit_balance.png": figures.plot_bit_balance,
    }
    if report.get("training") or report.get("evaluations"):
        ways[names.TRAINING_FIGURE] = figures.plot_training
    for name, way in ways.items():
        way(report, directory / name)
    if images:
        retrieval_grid.draw_retrieval(report, images, directory / "retrieval.png")
    pictures = {name: _for_page(way, report) for name, way in ways.items()}
    text = page.render_report(report, images, pictures)
    write_atomically(directory / names.PAGE, text.encode())
    return directory / names.PAGE


def write_sweep(
    directory: Path, reports: Sequence[tuple[str, Mapping[str, Any]]], *, draw: bool
) -> Path:
    """Writes the report over code lengths from (subfolder, report) of each."""
    first = reports[0][1]
    sweep = {
        "title": f"{first['dataset']['protocol']}, {len(reports)} code lengths",
        "dataset": first["dataset"],
        "top_k": first["top_k"],
        "lengths": [
            {
                "bits": report["bits"],
                "map": report["map"],
                "radius_2": report["radius_2"],
                "distinct_codes": report["code_health"]["distinct_codes"],
                "report": f"{folder}/{names.PAGE}",
                **report.get("selection", {}),
            }
            for folder, report in reports
        ],
        **({"baselines": first["baselines"]} if first.get("baselines") else {}),
        "published": published.published_for(
            first["dataset"]["protocol"], first["top_k"], first["run"].get("method")
        ),
        "run": first["run"],
    }
    write_json(directory / names.REPORT, sweep)
    if not draw:
        return directory / names.REPORT
    sweep_figure.plot_over_bits(sweep, directory / "map_over_bits.png")
    pictures = {"map_over_bits.png": _for_page(sweep_figure.plot_over_bits, sweep)}
    write_atomically(directory / names.PAGE, page.render_sweep(sweep, pictures).encode())
    return directory / names.PAGE


def _for_page(draw: Callable[[Any, figures.Target], None], content: Mapping[str, Any]) -> bytes:
    """Draws without the title, which the page has once at its top."""
    picture = io.BytesIO()
    draw({**content, "title": ""}, picture)
    return picture.getvalue()
