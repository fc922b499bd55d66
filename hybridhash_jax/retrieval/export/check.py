"""Reads back what was exported, and compares answers with the exact ones of the index."""

from typing import NamedTuple

import numpy as np

from hybridhash_jax.retrieval.engine import Nearest
from hybridhash_jax.retrieval.export.errors import ExportError
from hybridhash_jax.retrieval.export.rows import Rows
from hybridhash_jax.retrieval.export.target import Hits, Searched
from hybridhash_jax.retrieval.search.codes import Wanted, nearest_rows
from input_pipeline.progress import Progress

WANTED_RECALL = 0.99


class Checked(NamedTuple):
    """What was found.

    Attributes:
      queries: how many were asked.
      k: how many nearest of each.
      recall: the share of the exact answers that came; an item no farther than the k-th is one.
    """

    queries: int
    k: int
    recall: float


def check(rows: Rows, engine: Searched, queries: int, k: int, probes: int | None) -> Checked:
    """Counts, then searches with stored codes; sets `engine.probes`.

    Args:
      rows: what was exported.
      engine: where to.
      queries: how many codes to search with, drawn from the index.
      k: how many nearest of each to compare.
      probes: lists that a query looks at; None is the fewest of 1, 2, 4, ... that find 99 %.

    Raises:
      ExportError: the count, an id or a distance is not that of the index, or not all codes that
        are compared were found.
    """
    if (count := engine.count()) != len(rows):
        raise ExportError(
            f"{engine.place} holds {count:,} codes, and the index {len(rows):,}; export again, and "
            "let nothing else write to it"
        )
    sample = rows.index.sample(queries)
    if not len(sample):
        return Checked(0, k, 1.0)
    with Progress(f"comparing {len(sample)} answers with exact ones"):
        exact = nearest_rows(rows.index, rows.index.codes(sample), Wanted(k=k))
        recall = _measured(rows, engine, sample, exact, probes or 1)
        while probes is None and recall < WANTED_RECALL and engine.probes < engine.lists:
            recall = _measured(rows, engine, sample, exact, 2 * engine.probes)
    if not engine.lists and recall < 1:
        raise ExportError(
            f"{engine.place} compares all codes, and yet finds only {recall:.1%} of the {k} "
            "nearest; export again, and let nothing else write to it"
        )
    return Checked(len(sample), k, recall)


def _measured(
    rows: Rows, engine: Searched, sample: np.ndarray, exact: list[Nearest], probes: int
) -> float:
    engine.probes = min(probes, engine.lists)
    k = max(len(one) for one in exact)
    packed = rows.index.packed(sample)
    found = engine.search(packed, k)
    shares = [
        _share(rows, engine.place, code, near, hits)
        for code, near, hits in zip(packed, exact, found, strict=True)
    ]
    return float(np.mean(shares))


def _share(rows: Rows, place: str, code: np.ndarray, exact: Nearest, hits: Hits) -> float:
    """Which part of the exact answer was found, whatever the order of equal distances."""
    ids, first = np.unique(hits.ids, return_index=True)
    places = rows.places(ids)
    if (places < 0).any():
        raise ExportError(f"{place} holds codes that the index has not; export again")
    stored = rows.index.packed(rows.rows[places])
    distances = np.bitwise_count(stored ^ code).sum(1, dtype=np.int64)
    if (distances != hits.distances[first]).any():
        raise ExportError(
            f"{place} holds other codes than the index: distances differ; delete it and export again"
        )
    return min((distances <= exact.distances[-1]).sum() / len(exact), 1.0)
