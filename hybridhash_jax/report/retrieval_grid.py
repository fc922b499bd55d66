"""A picture of queries and their nearest database images, right and wrong marked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridhash_jax.report import wording
from hybridhash_jax.report.figures import GREEN, GREY, STYLE, VERMILLION, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sizes in cells; a cell is as wide as it is high, and a row of cells has its captions below.
_CELL_INCHES = 0.8
_FRAME, _IMAGE = 0.92, 0.8
_MARGIN, _LABELS, _GAP, _ROW, _HEADER = 0.12, 1.75, 0.3, 1.3, 0.95
_FEWEST_COLUMNS = 8  # so that the header fits
_RIGHT, _WRONG = "\N{CHECK MARK}", "\N{BALLOT X}"


def draw_retrieval(report: Mapping[str, Any], images: Mapping[int, np.ndarray], path: Path) -> None:
    """Writes `retrieval_figure` as a PNG file."""
    save(retrieval_figure(report, images), path)


def retrieval_figure(report: Mapping[str, Any], images: Mapping[int, np.ndarray]) -> Figure:
    """Draws a row a sample: the query's classes, the query, its nearest database images.

    A solid green frame and a check mark: shares a class with the query. A dashed red one and a
    cross: shares none. The number is the Hamming distance. `images` are uint8 [h, w, 3] of any
    size under their numbers in the samples; others are tiles with name and classes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    samples = report["samples"]
    columns = max([_FEWEST_COLUMNS, *(len(sample["neighbours"]) for sample in samples)])
    width = _LABELS + 1 + _GAP + columns + _MARGIN
    height = _HEADER + _ROW * len(samples) + _MARGIN
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_CELL_INCHES * width, _CELL_INCHES * height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        _draw_header(axes, report["title"])
        for row, sample in enumerate(samples):
            query, top = sample["query"], _HEADER + _ROW * row
            words = "\n".join(wording.lines(wording.label_list(query["labels"]), 15, 5))
            axes.text(_MARGIN, top + (1 - _FRAME) / 2, words, va="top", fontsize=9)
            _draw_image(axes, query, images, _LABELS, top, GREY, "-")
            caption = f"AP {query['average_precision']:.2f}"
            axes.text(_LABELS + 0.5, top + 1.02, caption, ha="center", va="top", fontsize=9)
            for place, found in enumerate(sample["neighbours"]):
                left, right = _LABELS + 1 + _GAP + place, bool(found["relevant"])
                colour = GREEN if right else VERMILLION
                _draw_image(axes, found, images, left, top, colour, "-" if right else (0, (3, 2)))
                caption = f"{_RIGHT if right else _WRONG} {found['distance']}"
                axes.text(
                    left + 0.5, top + 1.02, caption, ha="center", va="top", fontsize=9, color=colour
                )
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")  # imshow has changed them
    return figure


def _draw_header(axes: Axes, title: str) -> None:
    axes.text(
        _MARGIN, 0.3, "".join(wording.lines(title, 80, 1)), va="center", fontsize=12, weight="bold"
    )
    left = _LABELS + 1 + _GAP
    for x, text, colour in (
        (_LABELS + 0.04, "query", "black"),
        (left, f"{_RIGHT} shares a class", GREEN),
        (left + 2, f"{_WRONG} shares none", VERMILLION),
        (left + 3.7, "number: how many bits differ; nearest first", "black"),
    ):
        axes.text(x, 0.72, text, va="center", fontsize=9, color=colour)


def _draw_image(
    axes: Axes,
    item: Mapping[str, Any],
    images: Mapping[int, np.ndarray],
    left: float,
    top: float,
    colour: str,
    line: Any,
) -> None:
    """Draws an image in the middle of its cell, or its name and classes, with a frame around."""
    from matplotlib.patches import Rectangle

    margin = (1 - _FRAME) / 2
    image = images.get(item["image"])
    if image is not None:
        height, width = _IMAGE * np.array(image.shape[:2]) / max(image.shape[:2]) / 2
        x, y = left + 0.5, top + 0.5
        small = max(image.shape[:2]) <= wording.FEW_PIXELS
        axes.imshow(
            image,
            extent=(x - width, x + width, y + height, y - height),
            interpolation="nearest" if small else "antialiased",
        )
    else:
        name = wording.lines(wording.file_name(item["name"]), 12, 2)
        labels = wording.lines(wording.label_list(item["labels"]), 12, 5 - len(name))
        place = (left + 2 * margin, top + 2 * margin)
        axes.text(*place, "\n".join([*name, *labels]), va="top", fontsize=6)
    frame = Rectangle(
        (left + margin, top + margin), _FRAME, _FRAME, fill=False, ec=colour, ls=line, lw=2.5
    )
    axes.add_patch(frame)
