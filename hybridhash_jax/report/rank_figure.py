"""The figure of a comparison: the rank of every method over the code length."""

from __future__ import annotations

from collections.abc import Mapping

from hybridhash_jax.report import wording
from hybridhash_jax.report.figures import BLUE, GREEN, GREY, PURPLE, VERMILLION, Target, figure

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, GREY)
_MARKERS = "osD^vP"
_LINES = {"train": "-", "database": "--", "none": ":"}
_MARKS = {"train": "", "database": " \N{DAGGER}", "none": ""}


def plot_ranks(
    ranks: Mapping[str, Mapping[int, float]],
    titles: Mapping[str, str],
    supervision: Mapping[str, str],
    path: Target,
) -> None:
    """Draws a line a method, the first rank at the top, its title behind it.

    `ranks` are by method and length. By supervision lines are dashed (labels of the database, also
    marked with a dagger) or dotted (none).
    """
    lengths = sorted({bits for found in ranks.values() for bits in found})
    places = {bits: place for place, bits in enumerate(lengths)}
    most = max(rank for found in ranks.values() for rank in found.values())
    with figure(path, "", height=1.2 + 0.24 * most) as (_, (axes,)):
        for number, (method, found) in enumerate(_by_last(ranks)):
            axes.plot(
                [places[bits] for bits in found],
                list(found.values()),
                linestyle=_LINES[supervision[method]],
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=6,
            )
            last = max(found)
            axes.annotate(
                wording.lines(titles[method], 24, 1)[0] + _MARKS[supervision[method]],
                (places[last], found[last]),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=_COLOURS[number % len(_COLOURS)],
                annotation_clip=False,
            )
        axes.set(xlabel="bits", ylabel="rank", xticks=range(len(lengths)))
        axes.set_xticklabels([str(bits) for bits in lengths])
        axes.set_xlim(-0.2, (len(lengths) - 1 or 1) * 1.55)
        axes.set_ylim(most + 0.6, 0.4)
        step = 1 if most <= 8 else 5
        axes.set_yticks(sorted({1, *range(step, int(most) + 1, step)}))
        axes.grid(axis="x", visible=False)


def _by_last(
    ranks: Mapping[str, Mapping[int, float]],
) -> list[tuple[str, Mapping[int, float]]]:
    """Neighbours at the right end differ in colour and marker."""
    return sorted(ranks.items(), key=lambda item: item[1][max(item[1])])
