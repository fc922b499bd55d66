"""The table of `benchmarks.ablations`: what each change is worth beside what it changes."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def table_of(rows: Sequence[Row], base: str, others: Mapping[str, str]) -> list[Row]:
    """Mean and deviation over seeds of every change, and its difference from what it changes.

    A difference counts where it exceeds both deviations. A change waits for what it is compared with.

    Args:
      rows: the runs of one data set, each with change and map_expected.
      base: what a change is compared with, and what it is for those in `others`.
      others: by change.
    """
    found = {
        change: [row["map_expected"] for row in rows if row["change"] == change]
        for change in dict.fromkeys(row["change"] for row in rows)
    }
    mean = {change: statistics.mean(values) for change, values in found.items()}
    deviation = {c: statistics.stdev(v) if len(v) > 1 else None for c, v in found.items()}
    table = []
    for change in found:
        if (beside := others.get(change, base)) not in found:
            continue
        spreads = [deviation[change], deviation[beside]]
        difference = mean[change] - mean[beside]
        known = change != base and None not in spreads
        counts = abs(difference) > max(s for s in spreads if s is not None) if known else None
        table.append(
            {
                "change": change,
                "mean": mean[change],
                "deviation": deviation[change],
                "beside": beside,
                "difference": difference,
                "beyond_the_spread": counts,
            }
        )
    return table


def print_table(name: str, table: Sequence[Row], base: str) -> None:
    """Prints the rows of `table_of`, as docs/ablations.md has them."""
    print(f"\n| {name}: change | mAP | difference |\n|---|---|---|")
    for row in table:
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.4f}"
        word = {True: "", False: ", within the spread", None: ", one seed"}
        against = "" if row["beside"] == base else f" (from {row['beside']})"
        note = "" if row["change"] == base else word[row["beyond_the_spread"]]
        difference = "" if row["change"] == base else f"{row['difference']:+.4f}{note}{against}"
        print(f"| {row['change']} | {row['mean']:.4f}{spread} | {difference} |")
