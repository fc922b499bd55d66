"""The page of a comparison: the table of all methods, with links to each one's own report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridhash_jax.report.page import CHOSEN, TIE_RULE, embedded, render_template
from hybridhash_jax.report.rank_figure import plot_ranks
from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_atomically

RANKS = "rank_over_bits.svg"
_SERIES = ("method", "name", "backbone", "supervision", "source", "ties", "chosen")

Blocks = Sequence[Mapping[str, Any]]
Ranks = Mapping[str, Mapping[int, float]]


def write_comparison(
    directory: Path, comparison: Mapping[str, Any], blocks: Blocks, ranks: Ranks
) -> Path:
    """Writes report.html and, where there are ranks to draw, their figure; returns the page.

    `comparison` is what comparison.json holds; `blocks` are the rows of the table and `ranks` those
    by method and length, see `comparison.table`.
    """
    picture = None
    if len(ranks) > 1:
        cells = {cell["method"]: cell for cell in comparison["cells"]}
        titles = {method: cells[method]["title"] for method in ranks}
        supervision = {method: cells[method]["supervision"] for method in ranks}
        plot_ranks(ranks, titles, supervision, directory / RANKS)
        picture = (directory / RANKS).read_bytes()
    text = render_comparison(comparison, blocks, picture)
    write_atomically(directory / names.PAGE, text.encode())
    return directory / names.PAGE


def render_comparison(
    comparison: Mapping[str, Any], blocks: Blocks, picture: bytes | None = None
) -> str:
    """Makes the page; it loads nothing and needs no script. `picture` is an SVG file."""
    return render_template(
        "comparison.html",
        comparison=comparison,
        blocks=blocks,
        picture=picture and embedded(picture, "svg+xml"),
        published=_beside_ours(comparison, blocks),
        # One row where all lengths of a method are missing for one reason.
        left_out=_left_out(comparison["left_out"]),
        tie_rule=TIE_RULE,
        chosen=CHOSEN.get(comparison["selected_by"], comparison["selected_by"]),
        told=_told,
    )


def _told(values: Mapping[str, Any]) -> str:
    """Chosen values in short, such as "learning rate 0.003"."""
    short = {name.rpartition(".")[2].replace("_", " "): value for name, value in values.items()}
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in short.items()
    )


def _left_out(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    def reason(row: Mapping[str, Any]) -> tuple[str, str]:
        return row["method"], row["reason"]

    return [
        {
            "method": method,
            "lengths": ", ".join(str(row["bits"]) for row in same if row["bits"] is not None),
            "reason": text,
        }
        for (method, text), same in (
            (key, list(group)) for key, group in itertools.groupby(sorted(rows, key=reason), reason)
        )
    ]


def _beside_ours(comparison: Mapping[str, Any], blocks: Blocks) -> list[dict[str, Any]]:
    """Series of published numbers with a value a length, each method's behind ours."""
    lengths = comparison["lengths"]
    series: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = {}
    for row in comparison["published"]:
        key = tuple(row[name] for name in _SERIES)
        series.setdefault(key, {})[row["bits"]] = row
    if not series:
        return []
    table: list[dict[str, Any]] = []
    published = [_published(key, by_bits, lengths) for key, by_bits in series.items()]
    for row in (row for block in blocks for row in block["rows"]):
        same = [one for one in published if one["name"] == row["method"]]
        if same:
            table += [_ours(comparison, row), *same]
    ours = {row["method"] for block in blocks for row in block["rows"]}
    return table + [one for one in published if one["name"] not in ours]


def _ours(comparison: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    first = next(cell for cell in row["cells"] if cell)
    return {
        "ours": True,
        "method": row["title"],
        "name": row["method"],
        "backbone": comparison["backbone"]["variant"],
        "supervision": first["supervision"],
        "source": "this comparison",
        "ties": "the mean over all orders (expected)",
        "chosen": CHOSEN.get(comparison["selected_by"], comparison["selected_by"]),
        "values": [cell and cell["mean"] for cell in row["cells"]],
        "notes": "",
    }


def _published(
    key: tuple[Any, ...], by_bits: Mapping[int, Mapping[str, Any]], lengths: Sequence[int]
) -> dict[str, Any]:
    notes = dict.fromkeys(row["note"] for row in by_bits.values() if row["note"])
    return {
        "ours": False,
        **dict(zip(_SERIES, key, strict=True)),
        "values": [by_bits[bits]["map"] if bits in by_bits else None for bits in lengths],
        "notes": "; ".join(notes),
    }
