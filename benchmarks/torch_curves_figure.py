"""Draws the loss curves of `benchmarks.torch_curves`, one panel a record.

python -m benchmarks.torch_curves_figure --out=docs/torch_curves.png RECORD.json ...
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hybridhash_jax.report.figures import BLUE, GREY, STYLE, VERMILLION
from input_pipeline.atomic_file import open_atomically


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path, nargs="+", help="of benchmarks.torch_curves")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    args = parser.parse_args()
    draw([json.loads(path.read_text()) for path in args.records], args.out)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Above the losses of the first seed, below how far the others are from ours, relative."""
    style: Any = STYLE | {"text.parse_math": True, "legend.fontsize": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6 * len(records), 6), dpi=150, layout="constrained")
        axes: Any = figure.subplots(2, len(records), sharex=True, squeeze=False)
        for (above, below), record in zip(axes.T, records, strict=True):
            _draw_one(above, below, record)
        axes[0, 0].set_ylabel("loss")
        axes[1, 0].set_ylabel("difference from PyTorch, relative")
        with open_atomically(path) as file:
            figure.savefig(file, format="png")


def _draw_one(above: Any, below: Any, record: dict[str, Any]) -> None:
    run = record["runs"][0]
    losses = {
        name: np.asarray(run[name]["loss"])
        for name in ("jax", "torch", "torch_noisy")
        if name in run
    }
    steps = np.arange(1, len(losses["jax"]) + 1)
    above.plot(steps, losses["jax"], color=BLUE, linewidth=4, alpha=0.4, label="this program")
    above.plot(steps, losses["torch"], color=VERMILLION, linewidth=1, label="PyTorch")
    above.legend()
    pairs = "the memory bank" if record["loss"]["pairs"] == "bank" else "the batch"
    optimizer = {"adamw": "AdamW", "rmsprop": "RMSprop"}[record["optimizer"]["name"]]
    above.set_title(f"pairs with {pairs}, {optimizer}")
    above.set_yscale("log")
    for name, other, color, line, label in (
        ("torch", "jax", VERMILLION, "-", "this program"),
        ("torch_noisy", "torch", GREY, ":", "PyTorch, last digits changed"),
    ):
        if name in losses:
            relative = np.abs(losses[name] - losses[other]) / np.abs(losses[other])
            below.plot(
                steps, np.maximum(relative, 1e-9), line, color=color, linewidth=1, label=label
            )
    below.set_yscale("log")
    below.set_xlabel("step")
    below.legend()


if __name__ == "__main__":
    main()
