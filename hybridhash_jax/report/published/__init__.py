"""Published numbers, one JSON file a protocol, named as `input_pipeline.splits` calls it.

A file is a list of series: top_k (null: the whole database), method, name (as our registry calls it;
null: it is not there), backbone, supervision (whose labels it learned from, "train" or "database"),
source, ties (how items at equal distance were ordered), chosen (how the evaluation was chosen among
those of the run), and results with bits, map and, where there is more to say, a note.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Published(NamedTuple):
    """One published number; the fields are those of the files."""

    protocol: str
    method: str
    name: str | None
    backbone: str
    supervision: str
    source: str
    ties: str
    chosen: str
    bits: int
    map: float
    note: str | None = None


def load_published(protocol: str, top_k: int | None) -> list[Published]:
    """The published numbers of a protocol at this cut-off; none of any other."""
    found: list[Published] = []
    for path in sorted(Path(__file__).parent.glob("*.json")):
        if path.stem != protocol:
            continue
        for series in json.loads(path.read_text(encoding="utf-8")):
            results, at = series.pop("results"), series.pop("top_k")
            if at == top_k:
                found += [Published(protocol=protocol, **series, **row) for row in results]
    return found


def published_for(
    protocol: str, top_k: int | None, method: str | None = None
) -> list[dict[str, Any]]:
    """The same as rows that JSON can hold; of one `method` by our name for it, None: of all."""
    rows = load_published(protocol, top_k)
    return [row._asdict() for row in rows if method in (None, row.name)]
