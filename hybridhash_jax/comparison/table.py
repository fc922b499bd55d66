"""The table of a comparison: which methods stand side by side, which cell leads, the ranks."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Cells = Sequence[Mapping[str, Any]]

# Methods that learn from other labels are never ranked with each other.
BLOCKS = {
    "train": "Labels of the training images",
    "database": "Labels of the whole database",
    "none": "No labels",
}


def make_blocks(cells: Cells, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of the table by supervision.

    Returns:
      Blocks with supervision, name and rows, the best row first (by the mean over all lengths,
      those that lack a length after the others). A row has method, title, paper, and cells: those
      of `cells` by length, None where there is none, each with `leads`, see `leaders`, and
      `partly`, such as "2 of 3 seeds", empty where none is missing.
    """
    blocks: list[dict[str, Any]] = []
    for supervision, name in BLOCKS.items():
        own = [cell for cell in cells if cell["supervision"] == supervision]
        if not own:
            continue
        ahead = leaders(own)
        rows = [
            _row(method, own, lengths, ahead)
            for method in dict.fromkeys(cell["method"] for cell in own)
        ]
        rows.sort(key=lambda row: (-len(row["found"]), -statistics.fmean(row["found"])))
        blocks.append({"supervision": supervision, "name": name, "rows": rows})
    return blocks


def _row(
    method: str, cells: Cells, lengths: Sequence[int], ahead: Mapping[int, str]
) -> dict[str, Any]:
    own = {cell["bits"]: cell for cell in cells if cell["method"] == method}
    first = next(iter(own.values()))
    return {
        **{name: first[name] for name in ("method", "title", "paper")},
        "cells": [
            _shown(own[bits], leads=ahead.get(bits) == method) if bits in own else None
            for bits in lengths
        ],
        "found": [cell["mean"] for cell in own.values()],
    }


def _shown(cell: Mapping[str, Any], *, leads: bool) -> dict[str, Any]:
    found, missing = len(cell["values"]), cell["seeds_missing"]
    partly = f"{found} of {found + missing} seeds" if missing else ""
    return {**cell, "leads": leads, "partly": partly}


def leaders(cells: Cells) -> dict[int, str]:
    """By length the method whose lead over the second exceeds the larger of both deviations.

    Where that is not so, where a deviation is not known, where there is only one, or where the best
    lacks seeds (those that diverged, perhaps), none leads.
    """
    found: dict[int, str] = {}
    for bits in {cell["bits"] for cell in cells}:
        of_length = [cell for cell in cells if cell["bits"] == bits]
        best, *others = sorted(of_length, key=lambda cell: cell["mean"], reverse=True)
        if not others or best["seeds_missing"]:
            continue
        spreads = [one["deviation"] for one in (best, others[0])]
        if None not in spreads and best["mean"] - others[0]["mean"] > max(spreads):
            found[bits] = best["method"]
    return found


def ranks(cells: Cells) -> dict[str, dict[int, float]]:
    """The rank of each method at each length, 1 the best, by mean; equals share theirs.

    Of the first group of methods that there is, see `BLOCKS`: others are not ranked with them.
    """
    found: dict[str, dict[int, float]] = {}
    there = {cell["supervision"] for cell in cells}
    group = next((name for name in BLOCKS if name in there), None)
    cells = [cell for cell in cells if cell["supervision"] == group]
    for bits in sorted({cell["bits"] for cell in cells}):
        means = {cell["method"]: cell["mean"] for cell in cells if cell["bits"] == bits}
        for method, mean in means.items():
            better = sum(other > mean for other in means.values())
            equal = sum(other == mean for other in means.values())
            found.setdefault(method, {})[bits] = better + (equal + 1) / 2
    return found
