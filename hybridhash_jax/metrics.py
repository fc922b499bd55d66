"""Retrieval quality of binary codes: mean average precision with explicit ties, code health."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hybridhash_jax import codes as codes_lib

TIE_RULES = ("expected", "stable")


@dataclasses.dataclass(frozen=True, eq=False)
class CodeStatistics:
    """What a set of codes looks like; a collapse shows in each of these.

    Attributes:
        bit_balance: float64 [K], mean of each bit in [-1, 1]; 0 is balanced.
        constant_bits: number of bits that never change.
        distinct_codes: number of different codes.
        largest_share: share of the items that have the commonest code, in (0, 1].
    """

    bit_balance: np.ndarray
    constant_bits: int
    distinct_codes: int
    largest_share: float


def mean_average_precision(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    top_k: int | None = None,
    ties: str = "expected",
) -> float:
    """Averages `average_precisions` over all queries; one with nothing relevant counts 0.

    Arguments and errors are those of `average_precisions`.
    """
    return float(
        average_precisions(
            query_codes, query_labels, database_codes, database_labels, top_k, ties
        ).mean()
    )


def average_precisions(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    top_k: int | None = None,
    ties: str = "expected",
) -> np.ndarray:
    """Computes AP@k of each query, with the database ranked by Hamming distance.

    AP@k = sum over the relevant places p <= k of (relevant up to p) / p, divided by the
    relevant items found in the first k; 0 when none is found there. `ties` orders equal
    distances: "expected" takes the exact expectation over uniformly random orders (McSherry
    and Najork 2008; He et al., "Hashing as Tie-Aware Learning to Rank", CVPR 2018), "stable"
    ranks by (distance, database row), which depends on how the database is sorted.

    Args:
        query_codes: [Q, K] of -1/+1 or 0/1.
        query_labels: multi-hot [Q, classes], or integer class ids [Q].
        database_codes: [M, K], as the queries'.
        database_labels: [M, classes] or [M], of the same kind as the queries'.
        top_k: k, 1 or more; None, M and anything above M rank the whole database.
        ties: "expected" or "stable".

    Returns:
        float64 [Q].

    Raises:
        ValueError: lengths or widths differ, either side is empty, values are no codes or no
            labels, `top_k` is below 1, or `ties` is unknown.
    """
    queries = codes_lib.check_codes(query_codes, "query_codes")
    database = codes_lib.check_codes(database_codes, "database_codes")
    relevance = _relevance_function(query_labels, database_labels)
    _check_sizes(queries, query_labels, database, database_labels)
    places = _check_top_k(top_k, len(database))
    if ties not in TIE_RULES:
        raise ValueError(f'ties must be "expected" or "stable"; got {ties!r}.')
    bits = queries.shape[1]
    query_words, words = codes_lib.to_words(queries).T, codes_lib.to_words(database)
    # One query at a time: a row of M distances stays in the cache, and no Q x M array exists.
    rows = (
        (codes_lib.word_distance(query, words, bits), relevance(row))
        for row, query in enumerate(query_words)
    )
    if ties == "stable":
        return np.array([_stable_precision(*row, places) for row in rows])
    counts = np.stack([_count_groups(*row, bits) for row in rows])
    return _expected_precisions(counts[..., 0] + counts[..., 1], counts[..., 1], places)


def queries_without_relevant(query_labels: npt.ArrayLike, database_labels: npt.ArrayLike) -> int:
    """Counts the queries that share no label with any database item; their AP is 0.

    Labels and errors are those of `average_precisions`; an empty database has nothing relevant.
    """
    queries, database = _check_labels(query_labels, database_labels)
    if queries.ndim == 1:
        found = np.isin(queries, database)
    else:
        found = (queries & np.any(database, axis=0, keepdims=True)).any(axis=1)
    return int(np.count_nonzero(~found))


def code_statistics(codes: npt.ArrayLike) -> CodeStatistics:
    """Measures bit balance and diversity of codes [N, K], N >= 1, of -1/+1 or 0/1.

    Raises:
        ValueError: no codes, or values that are none.
    """
    array = codes_lib.check_codes(codes)
    if len(array) == 0:
        raise ValueError("codes is empty; statistics need at least one code.")
    balance = array.mean(axis=0, dtype=np.float64)
    _, counts = np.unique(codes_lib.to_words(array), axis=1, return_counts=True)
    return CodeStatistics(
        bit_balance=balance,
        constant_bits=int(np.count_nonzero(array.min(axis=0) == array.max(axis=0))),
        distinct_codes=len(counts),
        largest_share=float(counts.max() / len(array)),
    )


def _stable_precision(distance: np.ndarray, relevant: np.ndarray, places: int) -> float:
    # NumPy sorts 8- and 16-bit integers stably by radix, in time linear in M.
    order = np.argsort(distance, kind="stable")[:places]
    found = np.flatnonzero(relevant[order]) + 1
    return float((np.arange(1, len(found) + 1) / found).mean()) if len(found) else 0.0


def _count_groups(distance: np.ndarray, relevant: np.ndarray, bits: int) -> np.ndarray:
    """Counts items by distance and relevance: int64 [K + 1, 2]."""
    key = distance.astype(np.intp)
    key *= 2
    key += relevant
    return np.bincount(key, minlength=2 * (bits + 1)).reshape(bits + 1, 2)


def _expected_precisions(items: np.ndarray, relevant: np.ndarray, places: int) -> np.ndarray:
    """Takes the expectation of AP@places from the sizes of the distance groups.

    Args:
        items: int [Q, K + 1], items at each distance.
        relevant: int [Q, K + 1], relevant ones among them.
        places: the cut-off, at most the sum of `items`.

    Returns:
        float64 [Q].
    """
    before = np.cumsum(items, axis=1) - items
    relevant_before = np.cumsum(relevant, axis=1) - relevant
    harmonic = _harmonic_numbers(int(items[0].sum()))
    inside = np.clip(places - before, 0, items)
    whole = (inside == items) & (items > 0)
    per_group = _group_precision(items, relevant, before, relevant_before, harmonic)
    total = np.where(whole, per_group, 0.0).sum(axis=1)
    found = np.where(whole, relevant, 0).sum(axis=1)
    result = total / np.maximum(found, 1)
    for query, group in np.argwhere((inside > 0) & ~whole):
        taken = inside[query, group]
        share, extra = _hypergeometric(
            int(items[query, group]), int(relevant[query, group]), int(taken)
        )
        partial = _group_precision(
            taken, extra, before[query, group], relevant_before[query, group], harmonic
        )
        values = (total[query] + partial) / np.maximum(found[query] + extra, 1)
        result[query] = share @ values
    return result


def _group_precision(
    items: np.ndarray,
    relevant: np.ndarray,
    before: np.ndarray,
    relevant_before: np.ndarray,
    harmonic: np.ndarray,
) -> np.ndarray:
    """Sums the expected precision at the relevant places of a group in random order.

    (r/n) sum_{t=1..n} [R + 1 + (t-1)(r-1)/(n-1)] / (N+t), where n items, r of them relevant,
    follow N items with R relevant. With s = sum 1/(N+t), a difference of harmonic numbers, and
    sum (t-1)/(N+t) = n - (N+1) s, no loop over the places is left. Empty groups give 0.
    """
    inverse_sum = harmonic[before + items] - harmonic[before]
    ramp_sum = items - (before + 1) * inverse_sum
    # For n = 1 the slope is 0 if r = 1, and multiplied by r = 0 otherwise.
    slope = (relevant - 1) / np.maximum(items - 1, 1)
    weight = relevant / np.maximum(items, 1)
    return weight * ((relevant_before + 1) * inverse_sum + slope * ramp_sum)


def _harmonic_numbers(count: int) -> np.ndarray:
    """Tabulates H_0..H_count, float64; summed wider where the machine can, to round once."""
    terms = 1 / np.arange(1, count + 1, dtype=np.longdouble)
    return np.concatenate([[0.0], np.cumsum(terms).astype(np.float64)])


def _hypergeometric(items: int, relevant: int, taken: int) -> tuple[np.ndarray, np.ndarray]:
    """Tabulates how many of `taken` items drawn from a group are relevant: (shares, counts).

    Multiplies the ratios of neighbouring probabilities outward from the mode, which needs no
    factorials and lets the far tails underflow to 0.
    """
    counts = np.arange(max(0, taken - (items - relevant)), min(relevant, taken) + 1)
    low = counts[:-1]
    ratio = (relevant - low) * (taken - low) / ((low + 1) * (items - relevant - taken + low + 1))
    mode = np.count_nonzero(ratio > 1)
    below = np.cumprod(1 / ratio[:mode][::-1])[::-1]
    shares = np.concatenate([below, [1.0], np.cumprod(ratio[mode:])])
    return shares / shares.sum(), counts


def _relevance_function(
    query_labels: npt.ArrayLike, database_labels: npt.ArrayLike
) -> Callable[[int], np.ndarray]:
    """Returns row -> bool [M], whether each database item shares a label with that query."""
    queries, database = _check_labels(query_labels, database_labels)
    if queries.ndim == 1:
        return lambda row: database == queries[row]
    query_words, words = codes_lib.to_words(queries).T, codes_lib.to_words(database)

    def shares_label(row: int) -> np.ndarray:
        shared = words[0] & query_words[row, 0]
        for word, other in zip(query_words[row, 1:], words[1:], strict=True):
            shared |= other & word
        return shared != 0

    return shares_label


def _check_labels(
    query_labels: npt.ArrayLike, database_labels: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    queries = _check_label_values("query_labels", query_labels)
    database = _check_label_values("database_labels", database_labels)
    if queries.shape[1:] != database.shape[1:]:
        raise ValueError(
            f"query_labels {queries.shape} and database_labels {database.shape} do not match; "
            "give both as class ids [N], or both multi-hot [N, classes] over the same classes."
        )
    return queries, database


def _check_label_values(name: str, labels: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        return array
    if array.ndim == 2 and array.shape[1] and ((array == 0) | (array == 1)).all():
        return array == 1
    raise ValueError(
        f"{name} must be multi-hot [N, classes] of 0 and 1, or integer class ids [N]; got shape "
        f"{array.shape} of {array.dtype}."
    )


def _check_sizes(
    queries: np.ndarray,
    query_labels: npt.ArrayLike,
    database: np.ndarray,
    database_labels: npt.ArrayLike,
) -> None:
    sides = (("query", queries, query_labels), ("database", database, database_labels))
    for side, side_codes, labels in sides:
        if len(side_codes) != len(np.asarray(labels)):
            raise ValueError(
                f"{side}_codes has {len(side_codes)} rows and {side}_labels has "
                f"{len(np.asarray(labels))}; give one label row a code."
            )
        if len(side_codes) == 0:
            raise ValueError(f"{side}_codes is empty; a ranking needs at least one item a side.")
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"query_codes has {queries.shape[1]} bits and database_codes has "
            f"{database.shape[1]}; encode both with the same model."
        )


def _check_top_k(top_k: int | None, database_size: int) -> int:
    if top_k is None:
        return database_size
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more, or None for the whole database; got {top_k}.")
    return min(int(top_k), database_size)
