"""Answers as text, JSON or CSV."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from hybridhash_jax.retrieval import outputs
from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.names import shown, shown_label
from hybridhash_jax.retrieval.search.answers import Answer
from hybridhash_jax.retrieval.search.codes import Wanted
from hybridhash_jax.retrieval.search.queries import Query
from input_pipeline.messages import counted

FORMAT = 1  # of JSON and CSV
_COLUMNS = ("query", "rank", "distance", "path", "label", "row", "width", "height")


def content_of(
    index: Index,
    searched: int,
    wanted: Wanted,
    queries: Sequence[Query],
    answers: Sequence[Answer | None],
    warnings: Sequence[str],
    recall: float | None,
) -> dict[str, Any]:
    """All that was found, as JSON has it; docs/search.md describes it."""
    model = index.model
    return {
        "format": FORMAT,
        "index": {
            "path": str(index.path),
            "images": len(index),
            "searched": searched,
            "generation": index.generation,
            "bits": model.bits,
            "model": model.name,
            "fingerprint": model.fingerprint,
        },
        "k": wanted.k,
        "radius": wanted.radius,
        "where": [list(pair) for pair in wanted.where],
        "kind": wanted.kind,
        "recall": recall,
        "warnings": list(warnings),
        "queries": [_query(*one) for one in zip(queries, answers, strict=True)],
    }


def as_bytes(content: dict[str, Any], kind: str) -> bytes:
    """The content in one of `outputs.FORMATS`."""
    return outputs.as_bytes(kind, content, lambda: as_text(content), _COLUMNS, _rows(content))


def as_text(content: dict[str, Any]) -> str:
    """A table for each query that has an answer."""
    told = [_table(one, content) for one in content["queries"] if one["error"] is None]
    return "\n\n".join(told)


def summary(content: dict[str, Any]) -> str:
    """How much was searched with what, in a line."""
    answered = [one for one in content["queries"] if one["error"] is None]
    found = sum(len(one["found"]) for one in answered)
    queries = "1 query" if len(answered) == 1 else f"{len(answered):,} queries"
    return f"{queries} answered with {counted(found, 'image')} of {content['index']['searched']:,}"


def ties(one: dict[str, Any]) -> str:
    """How many images the last distance has beside those that are shown; empty for none."""
    if not one["left_out"]:
        return ""
    count, last = one["left_out"], one["found"][-1]["distance"]
    more = "1 more image is" if count == 1 else f"{count:,} more images are"
    if not one["exact"]:
        more = f"at least {more}"
    return f"{more} at distance {last}, too; of equal ones the first in the index are shown"


def _query(query: Query, answer: Answer | None) -> dict[str, Any]:
    found = answer or Answer()
    return {
        "query": query.name,
        "row": query.row,
        "error": query.error,
        "exact": found.exact,
        "at_last": found.at_last,
        "left_out": found.left_out,
        "found": [
            {
                "rank": rank,
                "row": one.row,
                "path": one.path,
                "distance": one.distance,
                "label": one.label,
                "width": one.width,
                "height": one.height,
            }
            for rank, one in enumerate(found, 1)
        ],
    }


def _rows(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in content["queries"]:
        yield from ({"query": one["query"], **found} for found in one["found"])


def _table(one: dict[str, Any], content: dict[str, Any]) -> str:
    searched, bits = content["index"]["searched"], content["index"]["bits"]
    if not one["found"]:
        within = f" within distance {content['radius']}" if content["radius"] is not None else ""
        return f"{shown(one['query'])}: none of {counted(searched, 'image')}{within}"
    head = f"{shown(one['query'])}: {len(one['found']):,} of {counted(searched, 'image')}, codes of {bits} bits"
    rows = [("rank", "distance", "path", "label")]
    rows += [
        (str(x["rank"]), str(x["distance"]), shown(x["path"]), shown_label(x["label"]))
        for x in one["found"]
    ]
    widths = [max(_width(row[column]) for row in rows) for column in range(4)]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([head, *lines, *([f"  {ties(one)}"] if one["left_out"] else [])])


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    rank, distance = (text.rjust(width) for text, width in zip(row[:2], widths[:2], strict=True))
    path = row[2] + " " * (widths[2] - _width(row[2]))
    return f"  {rank}  {distance}  {path}  {row[3]}".rstrip()


def _width(text: str) -> int:
    """Columns on a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
