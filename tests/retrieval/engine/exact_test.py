"""Exact search equals comparing all codes one by one, by NumPy and by the compiled loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhash_jax.retrieval.engine import exact


def by_hand(codes, query, k, radius, mask):
    """(row, distance) of the answer, and how many have the last distance."""
    pairs = [
        (sum(int(a ^ b).bit_count() for a, b in zip(row.tolist(), query.tolist(), strict=True)), i)
        for i, row in enumerate(codes)
        if mask is None or mask[i]
    ]
    near = sorted(pair for pair in pairs if radius is None or pair[0] <= radius)
    answer = near[:k]
    last = sum(pair[0] == answer[-1][0] for pair in near) if answer else 0
    return [(i, distance) for distance, i in answer], last


@st.composite
def searches(draw):
    words, n = draw(st.integers(1, 3)), draw(st.integers(0, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few different codes, so that many distances are equal.
    some = random.integers(0, 2**64, (draw(st.integers(1, 12)), words), dtype=np.uint64)
    codes = some[random.integers(0, len(some), n)]
    query = some[0] ^ np.uint64(draw(st.sampled_from([0, 1, 2**63, 7])))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=3)))
    k = draw(st.none() | st.integers(1, 70))
    radius = draw(st.integers(0, 200) if k is None else st.none() | st.integers(0, 200))
    mask = draw(st.none() | st.just(random.random(n) < 0.5))
    return codes, np.split(codes, cuts), query, k, radius, mask


@given(searches())
def test_numpy_and_the_compiled_loop_give_what_is_counted_by_hand(given):
    codes, segments, query, k, radius, mask = given
    expected, last = by_hand(codes, query, k, radius, mask)
    for worth in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exact, "_WORTH_COMPILING", worth)
            found = exact.nearest(segments, query, k, radius, mask)
        assert list(zip(found.rows.tolist(), found.distances.tolist(), strict=True)) == expected
        assert found.at_last == last


def test_blocks_segments_and_threads_change_nothing():
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**12, (30_000, 1), dtype=np.uint64)  # every code several times
    queries = random.integers(0, 2**12, (5, 1), dtype=np.uint64)
    mask = random.random(len(codes)) < 0.9
    many = exact.nearest_of_many(np.split(codes, [9_000, 9_001]), queries, 50, mask=mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_WORTH_COMPILING", 0)
        compiled = exact.nearest_of_many(
            np.split(codes, [4_096, 20_000]), queries, 50, mask=mask, num_workers=2
        )
    for query, one, other in zip(queries, many, compiled, strict=True):
        alone = exact.nearest([codes], query, 50, mask=mask)
        for found in (one, other):
            np.testing.assert_array_equal(found.rows, alone.rows)
            np.testing.assert_array_equal(found.distances, alone.distances)
            assert found.at_last == alone.at_last > 0
        assert mask[alone.rows].all()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give k, radius, or both"),
        ({"k": 0}, "k=0; give 1 or more"),
        ({"radius": -1}, "radius=-1; give 0 or more"),
        ({"k": 1, "query": np.zeros(2, np.uint64)}, "equally many words"),
        ({"k": 1, "query": np.zeros(1, np.int64)}, "are uint64"),
        ({"k": 1, "mask": np.ones(2, bool)}, r"is bool \[3\], not bool \(2,\)"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, told):
    asked = {"codes": [np.zeros((3, 1), np.uint64)], "query": np.zeros(1, np.uint64)} | given
    with pytest.raises(ValueError, match=told):
        exact.nearest(**asked)
