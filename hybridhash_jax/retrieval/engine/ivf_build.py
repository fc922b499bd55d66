"""Lists of similar codes, built: how many a query looks at follows from the recall wanted."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridhash_jax.retrieval.engine.exact import Mask, Words, check_arguments, nearest_batch
from hybridhash_jax.retrieval.engine.ivf import Ivf, IvfError, as_bytes, in_one_thread, load_faiss

_SAMPLES_A_LIST = 64  # for training, in rounds; more of either found the same neighbours
_TRAINING_ROUNDS = 6
_ROWS_AT_A_TIME = 1 << 20


def build(
    codes: Sequence[Words],
    mask: Mask | None = None,
    first_rows: Sequence[int] | None = None,
    *,
    lists: int | None = None,
    recall: float = 0.99,
    k: int = 100,
    num_queries: int = 200,
    seed: int = 0,
    made_of: str = "",
) -> Ivf:
    """Sorts codes into lists, and measures how many a query must look at.

    Args:
      codes: arrays uint64 [n, W], as for `exact.nearest`.
      mask: bool by row number; False leaves a row out.
      first_rows: as for `exact.nearest`.
      lists: how many; None for the root of the number of codes.
      recall: the share of the k nearest that must be found, on average over the queries. An item no
        farther than the k-th counts as one of them.
      k: how many neighbours that is measured for.
      num_queries: drawn from the codes; the query's own row does not count.
      seed: of all that is drawn.
      made_of: what tells these codes from others, kept in the file.
    """
    if not codes:
        raise IvfError("there are no codes to sort into lists")
    starts = check_arguments(codes, codes[0][:0], 1, None, mask, first_rows)
    pool = _Pool(codes, starts, mask)
    count = max(math.isqrt(len(pool.rows)), 1) if lists is None else lists
    if not 1 <= count <= len(pool.rows):
        there = f"{len(pool.rows):,} codes"
        accepted = f"; give 1 to {len(pool.rows):,}" if len(pool.rows) else ""
        raise IvfError(f"{there} cannot be sorted into {count:,} lists{accepted}")
    if not 0 < recall <= 1:
        raise IvfError(f"recall must be above 0 and at most 1; got {recall}")
    rng = np.random.default_rng(seed)
    # Threads that wait for each other on a busy machine would take longer than a small build.
    with contextlib.nullcontext() if len(pool.rows) > _ROWS_AT_A_TIME else in_one_thread():
        index = _sorted_into_lists(pool, count, rng)
    queries = np.sort(rng.choice(pool.rows, min(num_queries, len(pool.rows)), replace=False))
    with in_one_thread():
        probes, reached = _choose_probes(index, pool, queries, k, recall)
    ends = [start + len(array) for start, array in zip(starts, codes, strict=True)]
    return Ivf(pool.words, ends[-1], made_of, count, probes, reached, k, index)


class _Pool:
    """The codes that are sorted, by row number."""

    def __init__(self, codes: Sequence[Words], starts: Sequence[int], mask: Mask | None) -> None:
        self.codes, self.starts, self.mask = codes, starts, mask
        self.words = codes[0].shape[1]
        parts = [
            start
            + (np.arange(len(a)) if mask is None else np.flatnonzero(mask[start : start + len(a)]))
            for start, a in zip(starts, codes, strict=True)
        ]
        self.rows = np.concatenate(parts)

    def take(self, rows: np.ndarray) -> Words:
        """Codes of ascending rows."""
        cuts = np.searchsorted(rows, self.starts)[1:]
        parts = zip(self.codes, self.starts, np.split(rows, cuts), strict=True)
        return np.concatenate([np.asarray(a)[part - start] for a, start, part in parts])


def _sorted_into_lists(pool: _Pool, lists: int, rng: np.random.Generator) -> Any:
    faiss = load_faiss()
    quantizer = faiss.IndexBinaryFlat(64 * pool.words)
    index = faiss.IndexBinaryIVF(quantizer, 64 * pool.words, lists)
    index.cp.niter, index.cp.seed = _TRAINING_ROUNDS, int(rng.integers(1 << 30))
    # Few samples a list: faiss would warn on standard error.
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, _SAMPLES_A_LIST
    sample = rng.choice(pool.rows, min(_SAMPLES_A_LIST * lists, len(pool.rows)), replace=False)
    index.train(as_bytes(pool.take(np.sort(sample))))
    for start in range(0, len(pool.rows), _ROWS_AT_A_TIME):
        rows = pool.rows[start : start + _ROWS_AT_A_TIME]
        index.add_with_ids(as_bytes(pool.take(rows)), rows)
    return index


def _choose_probes(
    index: Any, pool: _Pool, rows: np.ndarray, k: int, recall: float
) -> tuple[int, float]:
    """Returns the fewest lists that reach the recall, and the recall they reach."""
    queries = pool.take(rows)
    asked = k + 1  # itself is among them
    exact = nearest_batch(pool.codes, queries, asked, None, pool.mask, pool.starts)
    truth = [
        _without(row, found.rows, found.distances, k)
        for row, found in zip(rows, exact, strict=True)
    ]

    def measured(probes: int) -> float:
        index.nprobe = probes
        distances, found = index.search(as_bytes(queries), asked)
        shares = []
        for row, true, ids, near in zip(rows, truth, found, distances, strict=True):
            got = _without(row, ids[ids >= 0], near[ids >= 0], k)
            if len(true):
                shares.append((got <= true[-1]).sum() / len(true))
        return float(np.mean(shares)) if shares else 1.0

    low, high, best = 0, 1, measured(1)
    while best < recall and high < index.nlist:
        low, high = high, min(2 * high, index.nlist)
        best = measured(high)
    while high - low > 1:  # more lists never find less
        middle = (low + high) // 2
        if (share := measured(middle)) >= recall:
            high, best = middle, share
        else:
            low = middle
    index.nprobe = high
    return high, best


def _without(row: int, rows: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """The k smallest distances of other rows."""
    return np.sort(distances[rows != row])[:k]
