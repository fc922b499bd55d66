"""The figures of a report: each takes the report's dict and writes one PNG file.

Colours, sizes and fonts stay legible on a phone. Matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hybridhash_jax.report import wording
from input_pipeline.atomic_file import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, told apart with any colour vision; each also has its own line or marker.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#5A5A5A"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11,
    "axes.titlesize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 2,
    "text.parse_math": False,  # names may hold dollar signs
}

_WIDTH = 4.6  # inches; at 350 CSS px, a phone's width, 11 pt are 11.6 px
_DPI = 200
_MARKED_POINTS = 40  # up to so many of a training curve are marked one by one
_MOST_POINTS = 300  # of a training curve; the figure is 920 pixels wide

Target = Path | BinaryIO


@contextmanager
def figure(
    path: Target, title: str, height: float, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Gives a figure with `rows` axes one above the other that share x; at the end it is a file.

    The title is broken into at most two lines; `height` is in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = drawn.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        if title:
            words = "\n".join(wording.lines(title, 42, 2))
            drawn.suptitle(words, fontsize=11, fontweight="bold")
        yield drawn, list(axes)
        save(drawn, path)


def save(drawn: Figure, path: Target) -> None:
    """Writes a figure as a PNG file, or as SVG by its name; the same figure gives the same bytes."""
    if isinstance(path, Path) and path.suffix == ".svg":
        write_atomically(path, as_svg(drawn))
        return
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        png = io.BytesIO()
        drawn.savefig(png, dpi=_DPI, format="png", metadata={"Software": None})
    if isinstance(path, Path):
        write_atomically(path, png.getvalue())
    else:
        path.write(png.getvalue())


def as_svg(drawn: Figure) -> bytes:
    """The figure as an SVG file, letters as shapes."""
    import matplotlib

    svg = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hybridhash_jax"}):
        drawn.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return svg.getvalue()


def legend_below(drawn: Figure, axes: Axes, columns: int) -> None:
    """Puts the legend below the axes, where no curve crosses it; none if it were empty."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        drawn.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            columnspacing=1.2,
            handlelength=1.8,
        )


def plot_precision_recall(report: Mapping[str, Any], path: Target) -> None:
    """Draws precision against recall, by rank and by Hamming radius (pr_curve.png).

    The dotted line is what a random order gives: the share of relevant items, which is the
    precision of the whole database. It is left out where the curve ends before that.
    """
    by_rank, by_radius = report["curves"]["by_rank"], report["curves"]["by_radius"]
    with figure(path, report["title"], height=4.2) as (drawn, (axes,)):
        axes.plot(by_rank["recall"], by_rank["precision"], color=BLUE, label="by rank")
        axes.plot(
            by_radius["recall"],
            by_radius["precision"],
            color=VERMILLION,
            linestyle="--",
            marker="o",
            markersize=4,
            label="by Hamming radius",
        )
        _number_radii(axes, by_radius)
        if by_rank["at"] and by_rank["at"][-1] >= report["dataset"]["database"]:
            axes.axhline(by_rank["precision"][-1], color=GREY, linestyle=":", label="random order")
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.03))
        legend_below(drawn, axes, columns=2)


def plot_precision_at_n(report: Mapping[str, Any], path: Target) -> None:
    """Draws precision and recall of the first N items over N (precision_at_n.png)."""
    curve = report["curves"]["by_rank"]
    with figure(path, report["title"], height=4.0) as (drawn, (axes,)):
        axes.plot(curve["at"], curve["precision"], color=BLUE, label="precision@N")
        axes.plot(curve["at"], curve["recall"], color=VERMILLION, linestyle="--", label="recall@N")
        if report["top_k"] is not None:
            name = f"k = {wording.count(report['top_k'])}, where mAP is cut"
            axes.axvline(report["top_k"], color=GREY, linestyle=":", label=name)
        axes.set(xlabel="N, items looked at", xscale="log", ylim=(0, 1.03))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
        legend_below(drawn, axes, columns=2)


def plot_training(report: Mapping[str, Any], path: Target) -> None:
    """Draws the loss above and mAP below, over epochs (training.png).

    Of thousands of logged steps the mean of every few is drawn, and a band from their least to
    their largest. Either half may be empty.
    """
    selected = (report.get("selection") or {}).get("epoch")
    lines = (
        ("map_expected", "expected over ties", VERMILLION, "o", "-"),
        ("map_stable", "stable order", GREEN, "x", "--"),
        ("validation_map_expected", "validation images", PURPLE, "s", ":"),
    )
    _plot_history(report, path, lines, wording.map_name(report["top_k"]), selected)


def plot_classification(report: Mapping[str, Any], path: Target) -> None:
    """Draws a classifier's loss above, top-1 and top-5 below, over epochs (training.png).

    `report` has title, training and evaluations, of which either list may be empty.
    """
    lines = (("top1", "top-1", VERMILLION, "o", "-"), ("top5", "top-5", GREEN, "x", "--"))
    _plot_history(report, path, lines, "right, validation images", None)


def plot_bit_balance(report: Mapping[str, Any], path: Target) -> None:
    """Draws the mean of every bit over the database as a bar (bit_balance.png).

    Bits that never change are hatched and reach -1 or +1: a collapse shows.
    """
    balance = np.asarray(report["code_health"]["bit_balance"], float)
    bits, stuck = np.arange(len(balance)), np.abs(balance) == 1
    with figure(path, report["title"], height=3.4) as (drawn, (axes,)):
        name = "changes" if stuck.any() else None
        axes.bar(bits[~stuck], balance[~stuck], width=0.8, color=BLUE, label=name)
        if stuck.any():
            axes.bar(
                bits[stuck],
                balance[stuck],
                width=0.8,
                color="white",
                edgecolor=VERMILLION,
                hatch="////",
                label="never changes",
            )
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set(xlabel="bit", ylabel="mean (0 is balanced)", ylim=(-1.05, 1.05))
        axes.set_xlim(-1, len(balance))
        axes.locator_params(axis="x", integer=True)
        legend_below(drawn, axes, columns=2)


def _number_radii(axes: Axes, curve: Mapping[str, Sequence[float]]) -> None:
    """Writes the radius beside points that lie apart, radius 2 (hash lookup) first."""
    from matplotlib.patheffects import withStroke

    points = {
        int(r): xy for r, *xy in zip(curve["at"], curve["recall"], curve["precision"], strict=True)
    }
    placed: list[Sequence[float]] = []
    for radius in sorted(points, key=lambda r: (r != 2, r)):
        x, y = points[radius]
        if all(math.dist((x, y), other) >= 0.11 for other in placed):
            placed.append((x, y))
            axes.annotate(
                str(radius),
                (x, y),
                xytext=(5, -5) if x < 0.1 else (-4, -5),
                textcoords="offset points",
                ha="left" if x < 0.1 else "right",
                va="bottom" if y < 0.1 else "top",
                color=VERMILLION,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )


def _plot_history(
    report: Mapping[str, Any],
    path: Target,
    lines: Iterable[tuple[str, str, str, str, str]],
    ylabel: str,
    selected: float | None,
) -> None:
    """Draws the loss above, and below lines of (key, label, colour, marker, line style)."""
    steps, evaluations = report.get("training") or (), report.get("evaluations") or ()
    with figure(path, report["title"], height=5.4, rows=2) as (drawn, (top, bottom)):
        _draw_loss(top, steps)
        top.set(ylabel="training loss")
        for name, label, colour, marker, line in lines:
            points = [(x["epoch"], x[name]) for x in evaluations if x.get(name) is not None]
            if points:
                bottom.plot(
                    *zip(*points, strict=True), line, color=colour, marker=marker, label=label
                )
        if selected is not None and evaluations:
            bottom.axvline(selected, color=GREY, linestyle=":", label="reported here")
        bottom.set(xlabel="epoch", ylabel=ylabel, ylim=(0, 1.03))
        legend_below(drawn, bottom, columns=2)


def _draw_loss(axes: Axes, steps: Sequence[Mapping[str, float]]) -> None:
    size = math.ceil(len(steps) / _MOST_POINTS) or 1
    groups = [steps[i : i + size] for i in range(0, len(steps), size)]
    losses = [[step["loss"] for step in group] for group in groups]
    epochs = [math.fsum(step["epoch"] for step in group) / len(group) for group in groups]
    if size > 1:
        least, largest = [min(x) for x in losses], [max(x) for x in losses]
        axes.fill_between(epochs, least, largest, color=BLUE, alpha=0.25, linewidth=0)
    marker = "." if len(groups) <= _MARKED_POINTS else None  # a single point draws no line
    axes.plot(epochs, [sum(x) / len(x) for x in losses], color=BLUE, marker=marker, markersize=9)
