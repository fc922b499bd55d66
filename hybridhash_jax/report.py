"""What a run leaves behind at its end: results.json, training.png, one table."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from hybridhash_jax.run_log import read_log
from input_pipeline.unreadable import Unreadable

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def results_entry(
    experiment: Any,
    history: Sequence[dict[str, Any]],
    *,
    train_images_per_second: float | None,
    fingerprint: int,
) -> dict[str, Any]:
    """One code length's entry of results.json: the selected evaluation, the best and the last.

    mAP is at `top_k` (None: over all). `fingerprint` is the final parameters' checksum: equal in
    two runs that are bit-identical.
    """
    config, dataset = experiment.config, experiment.dataset
    best_step = experiment.best_step(history)
    selected = next(record for record in history if record["step"] == best_step)
    best = max(history, key=lambda record: record["map_expected"])
    return {
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        "bits": experiment.bits,
        "top_k": experiment.top_k,
        "map_expected": selected["map_expected"],
        "map_stable": selected["map_stable"],
        "epoch": selected["epoch"],
        "selected_by": config.evaluation.selected_by,
        "best": {key: best[key] for key in ("epoch", "map_expected", "map_stable")},
        "last": {key: history[-1][key] for key in ("epoch", "map_expected", "map_stable")},
        "queries": selected["queries"],
        "database": selected["database"],
        "unreadable_images": len(experiment.unreadable.reasons),
        "train_images": len(experiment.train_rows),
        "train_images_per_second": train_images_per_second,
        "evaluate_seconds": selected["evaluate_seconds"],
        "seed": config.seed,
        "split_seed": config.data.split_seed,
        "variant": config.model.variant,
        "parameters": experiment.num_parameters,
        "init_from": experiment.init_note,
        "queries_without_relevant": selected["queries_without_relevant"],
        "bit_balance": selected["bit_balance"],
        "constant_bits": selected["constant_bits"],
        "distinct_codes": selected["distinct_codes"],
        "dataset_official": dataset.official,
        "dataset_provenance": dataset.provenance,
        "dataset_checksum": dataset.checksum,
        "parameters_fingerprint": fingerprint,
        "evaluations": list(history),
        **provenance(),
    }


def provenance() -> dict[str, Any]:
    """Where and with what a number was measured: command, device, versions."""
    device = jax.devices()[0]
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "processes": jax.process_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def write_unreadable(path: Path, unreadable: Unreadable) -> int:
    """Adds the images that could not be read to a list that may be there already, sorted.

    A line an image: its name, a tab, the reason. Returns how many the list has now.
    """
    lines = set(path.read_text().splitlines()) if path.exists() else set()
    lines |= {
        f"{unreadable.names[row]}\t{' '.join(reason.split())}"
        for row, reason in unreadable.reasons.items()
    }
    if lines:
        path.write_text("".join(line + "\n" for line in sorted(lines)))
    return len(lines)


def write_results(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Writes the list of entries, an entry a code length, in one move."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(list(entries), indent=2) + "\n")
    os.replace(part, path)


def results_table(entries: Sequence[dict[str, Any]]) -> str:
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


def plot_training(workdir: Path, title: str) -> Path:
    """Draws training.png from metrics.jsonl: loss above, mAP below, over epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = read_log(workdir)
    train = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    top.plot([x["epoch"] for x in train], [x["loss"] for x in train], color="#0072B2")
    top.set(title=title, ylabel="training loss")
    epochs = [x["epoch"] for x in evaluations]
    for name, colour, marker in (
        ("map_expected", "#D55E00", "o"),
        ("map_stable", "#009E73", "x"),
        ("validation_map_expected", "#CC79A7", "s"),
    ):
        points = [(e, x[name]) for e, x in zip(epochs, evaluations) if name in x]
        if points:
            bottom.plot(*zip(*points), color=colour, marker=marker, label=name)
    bottom.set(xlabel="epoch", ylabel="mAP", ylim=(0, 1.02))
    if evaluations:
        bottom.legend(loc="lower right")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    path = workdir / "training.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
