"""Mean average precision of a real-valued ranking: what codes of its vectors are held against."""

from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, UInt64

from hybridhash_jax.metrics import arguments

_PAIRS = 1 << 25  # whose products are kept at a time: 128 MiB
_NUMBERS = 1 << 22  # of a chunk of vectors: 16 MiB of float32


def cosine_average_precisions(
    query: np.ndarray,
    query_labels: npt.ArrayLike,
    database: np.ndarray,
    database_labels: npt.ArrayLike,
    top_k: SupportsIndex | None = None,
) -> Float64[np.ndarray, "Q"]:
    """Computes AP@k of each query, with the database ranked by cosine similarity.

    Similarities are rounded to 1e-6, so that equal vectors tie though products are rounded in
    another order. AP@k is the expectation over the orders of equal similarities, as
    `ranked_precisions(..., "expected")` has it of equal distances. A vector of zeros has
    similarity 0 to everything.

    Args:
        query: [Q, C] of numbers, also a memory map: both sides are read in chunks.
        query_labels: multi-hot [Q, classes], or integer class ids [Q].
        database: [N, C].
        database_labels: as `query_labels`.
        top_k: k, 1 or more; None, N and anything above N rank the whole database.

    Raises:
        ValueError: sizes or widths do not match, a side is empty, a vector is not finite, labels
            are not as `rank` takes them, or `top_k` is below 1 or no whole number.
    """
    labels = arguments.check_labels(query_labels, database_labels)
    _check_sides(query, labels[0], database, labels[1])
    places = arguments.check_top_k(top_k, len(database))
    query_words, words, by_class = arguments.pack_labels(labels)
    queries, items = _Side(query, "query"), _Side(database, "database")
    result = np.empty(len(query))
    for block in _slices(len(query), max(_PAIRS // len(database), 1)):
        products = _products(queries[block], items)
        _rank_rows(
            products,
            queries.inverse_norms[block],
            items.inverse_norms,
            np.ascontiguousarray(query_words[:, block].T),
            words,
            by_class,
            places,
            result[block],
        )
    return result


def _rank_rows(
    products: Float32[np.ndarray, "Q N"],
    query_scales: Float64[np.ndarray, " Q"],
    scales: Float64[np.ndarray, " N"],
    query_labels: UInt64[np.ndarray, "Q L"],
    labels: UInt64[np.ndarray, "L N"],
    by_class: bool,
    places: int,
    result: Float64[np.ndarray, " Q"],
) -> None:
    """Writes AP@places of each row; a similarity is a product times both scales."""
    from hybridhash_jax.metrics import cosine_loops, precision_sums  # import Numba, 0.2 s
    from hybridhash_jax.metrics.pair_loops import in_threads

    harmonic = precision_sums.harmonic_numbers(len(scales))

    def run(part: slice) -> None:
        shared, keys = np.empty(len(scales), np.uint16), np.empty(len(scales), np.int32)
        for row in range(*part.indices(len(result))):
            own = float(query_scales[row]), query_labels[row]
            cosine_loops.sort_keys(products[row], scales, *own, labels, by_class, shared, keys)
            keys.sort()  # NumPy's: Numba's own is several times slower
            result[row] = cosine_loops.expected_precision(keys, places, harmonic)

    in_threads(run, len(result))


class _Side:
    """Vectors, each times a power of two so that its largest number is about 1, which is exact.

    They are not divided by their norms: products of codes of -1 and +1 stay whole numbers, and
    equal products give equal similarities.
    """

    def __init__(self, vectors: np.ndarray, name: str):
        self.vectors = vectors
        self.powers = np.ones(len(vectors), np.float32)
        self.inverse_norms = np.empty(len(vectors))  # 0 for a vector of zeros
        for part in self.chunks():
            largest = np.abs(vectors[part]).max(axis=1).astype(np.float64)
            exponents = np.clip(np.frexp(largest)[1], -126, 126)  # of a float32
            self.powers[part] = np.ldexp(1.0, -exponents)
            squares = np.square(self[part], dtype=np.float64).sum(axis=1)
            known = np.where(squares > 0, squares, np.inf)
            self.inverse_norms[part] = np.where(np.isfinite(squares), known**-0.5, np.nan)
        if len(broken := np.flatnonzero(np.isnan(self.inverse_norms))):
            raise ValueError(
                f"{len(broken):,} of {len(vectors):,} {name} vectors have NaN or infinite numbers, "
                f"the first is row {broken[0]:,}; compute them again, or leave those items out."
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, part: slice) -> Float32[np.ndarray, "rows C"]:
        vectors = self.vectors[part]
        powers = self.powers[part, None]
        if vectors.dtype.itemsize > 4:  # may lie outside of float32
            return (vectors * powers.astype(np.float64)).astype(np.float32)
        return vectors.astype(np.float32) * powers

    def chunks(self) -> Iterator[slice]:
        return _slices(len(self), max(_NUMBERS // self.vectors.shape[1], 1))


def _products(left: Float32[np.ndarray, "Q C"], database: _Side) -> Float32[np.ndarray, "Q N"]:
    products = np.empty((len(left), len(database)), np.float32)
    for part in database.chunks():
        np.matmul(left, database[part].T, out=products[:, part])
    return products


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _check_sides(
    query: np.ndarray, query_labels: np.ndarray, database: np.ndarray, database_labels: np.ndarray
) -> None:
    sides = (("query", query, query_labels), ("database", database, database_labels))
    for side, vectors, labels in sides:
        if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
            raise ValueError(
                f"{side} must be numbers [items, dimensions], at least one of each; got shape "
                f"{vectors.shape} of {vectors.dtype}."
            )
        if len(vectors) != len(labels):
            raise ValueError(
                f"{side} has {len(vectors)} vectors and {side}_labels has {len(labels)} rows; give "
                "one label row a vector."
            )
    if query.shape[1] != database.shape[1]:
        raise ValueError(
            f"query vectors have {query.shape[1]} dimensions and those of the database "
            f"{database.shape[1]}; take both from the same model."
        )
