"""What the engines must return, computed the slow way, and codes with many ties."""

import numpy as np
from hypothesis import strategies as st

from hybridhash_jax.retrieval.engine import Nearest


def brute_force(codes, query, k=None, radius=None, mask=None) -> Nearest:
    """Compares bit by bit, and sorts everything by (distance, row)."""
    bits = np.unpackbits((codes ^ query).view(np.uint8), axis=1)
    distances = bits.sum(axis=1, dtype=np.int64)
    rows = np.arange(len(codes)) if mask is None else np.flatnonzero(mask)
    if radius is not None:
        rows = rows[distances[rows] <= radius]
    last = rows[np.lexsort((rows, distances[rows]))][:k]
    at_last = int((distances[rows] == distances[last[-1]]).sum()) if len(last) else 0
    return Nearest(last, distances[last], at_last)


def assert_same(found: Nearest, expected: Nearest) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.at_last == expected.at_last
    assert found.exact == expected.exact


def codes_of(seed: int, rows: int, words: int, varying_bits: int) -> np.ndarray:
    """Codes uint64 [rows, words] of which few bits vary, so that many are equal."""
    rng = np.random.default_rng(seed)
    bits = np.zeros((rows, 64 * words), np.uint8)
    columns = rng.permutation(64 * words)[:varying_bits]
    bits[:, columns] = rng.integers(0, 2, (rows, len(columns)))
    return np.packbits(bits, axis=1).view(np.uint64)


@st.composite
def searches(draw, largest_rows: int = 300):
    """Codes, a query, k, radius and mask; not both k and radius are None."""
    rows, words = draw(st.integers(0, largest_rows)), draw(st.sampled_from([1, 2, 4]))
    codes = codes_of(
        draw(st.integers(0, 2**32)), rows + 1, words, draw(st.sampled_from([2, 8, 64]))
    )
    k = draw(st.none() | st.integers(1, rows + 5))
    lowest = st.none() if k is not None else st.nothing()
    radius = draw(lowest | st.integers(0, 64 * words + 3))
    share = draw(st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]))
    mask = None
    if share is not None:
        mask = np.random.default_rng(draw(st.integers(0, 2**32))).random(rows) < share
    return codes[:-1], codes[-1], k, radius, mask
