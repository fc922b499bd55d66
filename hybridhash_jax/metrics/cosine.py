"""Mean average precision of a real-valued ranking: what codes of the same features are held against."""

from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Shaped

from hybridhash_jax.metrics import arguments

_PAIRS = 1 << 25  # whose products are kept at a time: 128 MiB
_NUMBERS = 1 << 22  # of a chunk of vectors: 16 MiB of float32

Vectors = Shaped[np.ndarray, "N C"]


def cosine_average_precisions(
    query: Vectors,
    query_labels: npt.ArrayLike,
    database: Vectors,
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
    from hybridhash_jax.metrics import cosine_loops, precision_sums  # import Numba, 0.2 s
    from hybridhash_jax.metrics.pair_loops import in_threads

    sides = arguments.check_labels(query_labels, database_labels)
    _check_sides(query, sides[0], database, sides[1])
    query_words, words, by_class = arguments.pack_labels(*sides)
    query_words = np.ascontiguousarray(query_words.T)
    places = arguments.check_top_k(top_k, len(database))
    harmonic = precision_sums.harmonic_numbers(len(database))
    queries, items = _Side(query, "query"), _Side(database, "database")
    result = np.empty(len(query))
    for block in _slices(len(query), max(_PAIRS // len(database), 1)):
        products = _products(queries[block], items)

        def run(part: slice, block: slice = block, products: np.ndarray = products) -> None:
            shared, keys = np.empty(len(database), np.uint16), np.empty(len(database), np.int32)
            for place in range(*part.indices(len(products))):
                row = block.start + place
                cosine_loops.sort_keys(
                    products[place],
                    items.inverse_norms,
                    queries.inverse_norms[row],
                    query_words[row],
                    words,
                    by_class,
                    shared,
                    keys,
                )
                keys.sort()  # NumPy's: Numba's own is several times slower
                result[row] = cosine_loops.expected_precision(keys, places, harmonic)

        in_threads(run, len(products))
    return result


class _Side:
    """Vectors, each times a power of two so that its largest number is about 1, which is exact.

    They are not divided by their norms: products of codes of -1 and +1 stay whole numbers, and
    equal products give equal similarities.
    """

    def __init__(self, vectors: Vectors, name: str):
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
    query: Vectors, query_labels: np.ndarray, database: Vectors, database_labels: np.ndarray
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
