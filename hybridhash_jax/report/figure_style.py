"""One look for all figures: colours, sizes and fonts that stay legible on a phone."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybridhash_jax.report import wording

# Okabe & Ito's colours, told apart with any colour vision; each also has its own line or marker.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#5A5A5A"

WIDTH = 4.6  # inches; at 350 CSS px, a phone's width, 11 pt are 11.6 px
_DPI = 200
_STYLE: dict[Any, Any] = {
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


@contextmanager
def figure(
    path: Path, title: str, height: float, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Gives a figure with `rows` axes one above the other; at the end it is a PNG file at `path`.

    Args:
        path: where the file goes.
        title: above all axes, broken into at most two lines.
        height: in inches.
        rows: number of axes; they share x.
    """
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = drawn.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        drawn.suptitle("\n".join(wording.lines(title, 42, 2)), fontsize=11, fontweight="bold")
        yield drawn, list(axes)
        with warnings.catch_warnings():
            # A name in a script that the font lacks is drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            drawn.savefig(path, dpi=_DPI, format="png", metadata={"Software": None})


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
