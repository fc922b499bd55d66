"""The exact scan returns what sorting all distances returns, ties in the order of rows."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhash_jax.retrieval.engine import nearest, nearest_batch
from tests.retrieval.engine.reference import assert_same, brute_force, codes_of, searches


@given(searches(), st.lists(st.integers(0, 300), max_size=3))
def test_it_equals_a_sort_of_all_distances_over_any_cut_into_segments(search, cuts):
    codes, query, k, radius, mask = search
    segments = np.split(codes, sorted(min(cut, len(codes)) for cut in cuts))
    found = nearest(segments, query, k, radius, mask)
    assert_same(found, brute_force(codes, query, k, radius, mask))


@pytest.mark.parametrize("order", ["random", "nearest first", "nearest last", "all equal"])
@pytest.mark.parametrize("k", [1, 100, 3_000, 500_000])
def test_it_is_exact_over_many_blocks_in_any_order(order, k):
    codes = codes_of(0, 200_000, 1, 1 if order == "all equal" else 40)
    query = codes[77] ^ np.uint64(1)
    if order.startswith("nearest"):
        by_distance = np.argsort(np.bitwise_count(codes ^ query)[:, 0], kind="stable")
        codes = codes[by_distance if order == "nearest first" else by_distance[::-1]]
    mask = np.random.default_rng(1).random(len(codes)) < 0.3
    for chosen in (None, mask):
        assert_same(
            nearest([codes], query, k, mask=chosen), brute_force(codes, query, k, mask=chosen)
        )


def test_ties_are_cut_by_row_and_counted_beyond_the_cut():
    codes = np.array([[3], [1], [0], [1], [2], [8]], np.uint64)
    found = nearest([codes], np.zeros(1, np.uint64), k=3)
    assert found.rows.tolist() == [2, 1, 3]
    assert found.distances.tolist() == [0, 1, 1]
    assert found.at_last == 4


def test_the_radius_is_the_largest_distance():
    codes = np.array([[7], [1], [0], [3]], np.uint64)
    found = nearest([codes], np.zeros(1, np.uint64), radius=2)
    assert (found.rows.tolist(), found.at_last) == ([2, 1, 3], 1)
    both = nearest([codes], np.zeros(1, np.uint64), k=2, radius=2)
    assert (both.rows.tolist(), both.at_last) == ([2, 1], 1)


@given(searches())
def test_a_batch_equals_its_queries_one_by_one(search):
    codes, query, k, radius, mask = search
    queries = np.stack([query, ~query, query ^ np.uint64(5)])
    found = nearest_batch([codes], queries, k, radius, mask)
    for one, expected in zip(found, queries, strict=True):
        assert_same(one, nearest([codes], expected, k, radius, mask))


def test_rows_of_a_missing_segment_stay_unused():
    codes = codes_of(2, 30, 1, 4)
    mask = np.ones(30, np.bool_)
    mask[10:20] = False
    parts = [codes[:10], codes[20:]]
    found = nearest(parts, codes[3], k=25, first_rows=[0, 20])
    assert_same(found, brute_force(codes, codes[3], k=25, mask=mask))
    assert_same(
        nearest(parts, codes[3], 5, None, mask, [0, 20]),
        brute_force(codes, codes[3], 5, None, mask),
    )


@pytest.mark.parametrize("words", [1, 3, 4, 5])
def test_codes_of_which_all_bits_differ_are_the_farthest(words):
    codes = np.zeros((3, words), np.uint64)
    codes[1] = ~codes[1]
    found = nearest([codes], ~codes[0], k=3)
    assert found.distances.tolist() == [0, 64 * words, 64 * words]
    assert (found.rows.tolist(), found.at_last) == ([1, 0, 2], 2)


def test_memory_mapped_codes_are_searched_in_place(tmp_path):
    codes = codes_of(3, 500, 2, 30)
    (tmp_path / "codes").write_bytes(codes.astype("<u8").tobytes())
    mapped = np.memmap(tmp_path / "codes", "<u8", "r", shape=codes.shape)
    found = nearest([mapped], codes[9], k=20)
    assert_same(found, brute_force(codes, codes[9], 20))
    assert type(found.rows) is np.ndarray


def test_no_codes_and_no_queries_are_answered():
    none = np.empty((0, 1), np.uint64)
    assert len(nearest([], np.zeros(1, np.uint64), k=3)) == 0
    assert nearest([none], np.zeros(1, np.uint64), k=3).at_last == 0
    assert nearest_batch([none], none, k=3) == []


@pytest.mark.parametrize(
    ("given_here", "message"),
    [
        ({}, "give k, a radius, or both"),
        ({"k": 0}, "k must be at least 1; got 0"),
        ({"radius": -1}, "radius must be at least 0 bits; got -1"),
        ({"k": 1, "codes": [np.zeros((3, 2), np.uint64)]}, r"uint64 of 1 words .* got uint64 \[3, 2\]"),
        ({"k": 1, "codes": [np.zeros((3, 1), np.uint8)]}, r"got uint8 \[3, 1\]"),
        ({"k": 1, "mask": np.ones(2, np.bool_)}, r"mask must be bool of 3 rows; got bool \[2\]"),
        ({"k": 1, "mask": np.ones(3, np.uint8)}, r"got uint8 \[3\]"),
        ({"k": 1, "first_rows": [0, 1]}, "1 arrays of codes, but 2 first rows"),
        ({"k": 1, "codes": [np.zeros((3, 1), np.uint64)] * 2, "first_rows": [0, 2]}, "must ascend"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(given_here, message):
    codes = given_here.pop("codes", [np.zeros((3, 1), np.uint64)])
    with pytest.raises(ValueError, match=message):
        nearest(codes, np.zeros(1, np.uint64), **given_here)


@pytest.mark.slow
def test_searching_loads_neither_jax_nor_numba_nor_faiss():
    script = (
        "import sys, numpy as np; from hybridhash_jax.retrieval import engine; "
        "engine.nearest([np.zeros((9, 1), np.uint64)], np.zeros(1, np.uint64), 3); "
        "print({'jax', 'numba', 'faiss', 'jaxtyping'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
