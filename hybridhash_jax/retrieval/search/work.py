"""What a call of `hybridhash search` does."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridhash_jax.retrieval.engine import Nearest
from hybridhash_jax.retrieval.index import Index, open_index
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.search import output
from hybridhash_jax.retrieval.search.answers import answer_of
from hybridhash_jax.retrieval.search.codes import Wanted, check_not_empty, nearest_rows, selected
from hybridhash_jax.retrieval.search.damage import damage
from hybridhash_jax.retrieval.search.queries import (
    Query,
    encode_queries,
    file_queries,
    stored_queries,
)

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.engine.ivf import Ivf
    from hybridhash_jax.retrieval.search.approximate import Lists


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for; see its help."""

    index: str
    queries: tuple[str, ...]
    names: tuple[str, ...]
    wanted: Wanted
    workdir: str | None = None
    num_workers: int = 1
    page: bool = False


def found_by(request: Request) -> tuple[dict[str, Any], str | None]:
    """Searches; returns the content as JSON has it, and the page if it is asked for."""
    with open_index(request.index) as index:
        wanted = request.wanted
        wanted.check(index.model.bits)
        rows = selected(index, wanted)
        check_not_empty(index, wanted, rows, shown(index.path))
        warnings = damage(index)
        _tell(warnings)
        queries = file_queries(request.queries) + stored_queries(index, request.names)
        notes = encode_queries(queries, index, request.workdir, request.num_workers)
        _tell(notes)
        lists = _lists(index) if wanted.kind == "ivf" else None
        warnings += notes + (lists.notes if lists else [])
        found = _nearest(index, wanted, queries, lists and lists.ivf, rows)
        answers = [None if one is None else answer_of(index, one) for one in found]
        searched = int(np.count_nonzero(rows))
        recall = lists.ivf.recall if lists else None
        content = output.content_of(index, searched, wanted, queries, answers, warnings, recall)
        return content, _page(index, queries, content) if request.page else None


def _lists(index: Index) -> "Lists":
    from hybridhash_jax.retrieval.search.approximate import open_lists

    lists = open_lists(index)
    _tell(lists.notes)
    return lists


def _nearest(
    index: Index, wanted: Wanted, queries: list[Query], lists: "Ivf | None", rows: np.ndarray
) -> list[Nearest | None]:
    """The nearest rows of each query that has a code."""
    words = [query.words for query in queries if query.words is not None]
    found = iter(nearest_rows(index, np.stack(words), wanted, lists, rows) if words else ())
    return [None if query.words is None else next(found) for query in queries]


def _page(index: Index, queries: list[Query], content: dict[str, Any]) -> str:
    from hybridhash_jax.report.search_page import render_search
    from hybridhash_jax.retrieval.search.pictures import Pictures

    pictures = Pictures(index, queries)
    return render_search(content, pictures.of_query, pictures.of_row)


def _tell(warnings: list[str]) -> None:
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
