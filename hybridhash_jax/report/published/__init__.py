"""Published numbers, one JSON file a protocol, named as `input_pipeline.splits` calls it.

A file is a list of series: top_k (null: the whole database), method, source, ties (how items at
equal distance were ordered), chosen (how the evaluation was chosen among those of the run), and
results with bits, map and, where it tells one from its neighbours, a note.
"""

import json
from pathlib import Path
from typing import Any


def published_for(protocol: str, top_k: int | None) -> list[dict[str, Any]]:
    """Returns the published numbers of a protocol at this cut-off as rows."""
    rows: list[dict[str, Any]] = []
    for path in Path(__file__).parent.glob("*.json"):
        if path.stem != protocol:
            continue
        for series in json.loads(path.read_text(encoding="utf-8")):
            results, at = series.pop("results"), series.pop("top_k")
            if at == top_k:
                rows += [{"protocol": protocol, "note": None} | series | row for row in results]
    return rows
