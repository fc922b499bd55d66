"""The figure of several code lengths: mAP over the bits."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridhash_jax.report import wording
from hybridhash_jax.report.figures import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    Target,
    figure,
    legend_below,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_over_bits(sweep: Mapping[str, Any], path: Target) -> None:
    """Draws mAP over the code length, with the band that ties leave open (map_over_bits.png).

    Best and last evaluation and published numbers are markers where they are given, and each
    baseline is a line.
    """
    entries = sorted(sweep["lengths"], key=lambda entry: entry["bits"])
    bits = [entry["bits"] for entry in entries]
    published = _by_run(sweep.get("published") or ())
    baselines = sweep.get("baselines") or ()
    height = 4.4 + 0.42 * len(published) + 0.25 * len(baselines)
    with figure(path, sweep["title"], height=height) as (drawn, (axes,)):
        _draw_tie_band(axes, bits, [entry["map"] for entry in entries])
        for name, marker in (("best", "^"), ("last", "v")):
            points = [(x["bits"], x[name]["map_expected"]) for x in entries if x.get(name)]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    marker,
                    color=BLUE,
                    fillstyle="none",
                    ms=9,
                    label=f"{name} evaluation",
                )
        for one, style in zip(baselines, itertools.cycle(("--", ":", "-."))):
            name = "\n".join(wording.lines(one["name"], 42, 2))
            axes.axhline(one["map_expected"], color=GREY, linestyle=style, label=name)
        for (label, points), (marker, colour) in zip(published, _markers(), strict=False):
            axes.plot(*zip(*points, strict=True), marker, color=colour, ms=8, label=label)
        ticks = sorted({*bits, *(x for _, points in published for x, _ in points)})
        axes.set(xlabel="bits", ylabel=wording.map_name(sweep["top_k"]), xticks=ticks)
        axes.set_ylim(*_room(axes.dataLim.y0, axes.dataLim.y1))
        axes.margins(x=0.08)
        legend_below(drawn, axes, columns=1)


def _draw_tie_band(axes: Axes, bits: Sequence[int], maps: Sequence[Mapping[str, float]]) -> None:
    expected = np.array([x["expected"] for x in maps])
    least = np.array([x["pessimistic"] for x in maps])
    largest = np.array([x["optimistic"] for x in maps])
    axes.fill_between(bits, least, largest, color=BLUE, alpha=0.2, linewidth=0)
    errors = (np.maximum(expected - least, 0), np.maximum(largest - expected, 0))
    axes.errorbar(bits, expected, errors, fmt="none", ecolor=BLUE, capsize=4)
    name = "this run, and where ties could move it"
    axes.plot(bits, expected, color=BLUE, marker="o", zorder=4, label=name)


def _by_run(published: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Published numbers of one run or table each: the legend's label, and the points."""
    runs: dict[tuple[str, ...], list[tuple[int, float]]] = {}
    for entry in published:
        key = tuple(entry[name] for name in ("method", "backbone", "chosen", "source"))
        runs.setdefault(key, []).append((entry["bits"], entry["map"]))
    alike = collections.Counter(key[:3] for key in runs)
    found: list[tuple[str, list[tuple[int, float]]]] = []
    for (method, backbone, chosen, source), points in runs.items():
        text = f"{method}, {backbone}: {chosen}"
        if alike[method, backbone, chosen] > 1:
            text += f" ({source})"
        found.append(("\n".join(wording.lines(text, 42, 4)), points))
    return found


def _markers() -> Iterable[tuple[str, str]]:
    """Sixteen pairs of marker and colour, of which neighbours differ in both."""
    colours = (VERMILLION, GREEN, PURPLE, GREY)
    return (("DXPs"[i % 4], colours[(i + i // 4) % 4]) for i in range(16))


def _room(least: float, largest: float) -> tuple[float, float]:
    """Limits of an axis of mAP: a span of 0.1 at least, inside [0, 1] but for markers' edges."""
    pad = max(0.1 * (largest - least), (0.1 - (largest - least)) / 2, 0.01)
    return max(least - pad, -0.01), min(largest + pad, 1.01)
