"""What a ranking counts, by every one of its loops, and the measures made of it."""

import threading

import numpy as np
import pytest

from hybridhash_jax import metrics


def sides(queries: int, size: int, bits: int, classes: int, several: bool) -> tuple:
    rng = np.random.default_rng(bits + classes)

    def side(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.eye(classes, dtype=int)[rng.integers(0, classes, count)]
        if several:
            labels |= rng.random((count, classes)) < 0.1
        return rng.integers(0, 2, (count, bits)) * 2 - 1, labels

    return *side(queries), *side(size)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("bits", "classes"), [(1, 3), (12, 21), (64, 64), (65, 10), (130, 81)])
@pytest.mark.parametrize("queries", [1, 4, 71])
def test_counts_are_those_of_all_pairs(queries, bits, classes, several):
    query_codes, query_labels, codes, labels = sides(queries, 4500, bits, classes, several)
    ranking = metrics.rank(query_codes, query_labels, codes, labels)
    distance, grade = (bits - query_codes @ codes.T) // 2, query_labels @ labels.T
    expected = np.zeros_like(ranking.by_grade)
    np.add.at(expected, (np.arange(queries)[:, None], distance, grade), 1)
    np.testing.assert_array_equal(ranking.by_grade, expected)
    np.testing.assert_array_equal(ranking.relevant_total, (grade > 0).sum(axis=1))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("bits", "classes"), [(12, 21), (65, 81), (127, 3), (128, 70)])
@pytest.mark.parametrize("top_k", [1, 300, None])
def test_stable_order_is_that_of_a_sort(bits, classes, several, top_k):
    query_codes, query_labels, codes, labels = sides(71, 4500, bits, classes, several)
    got = metrics.average_precisions(query_codes, query_labels, codes, labels, top_k, "stable")
    for query in range(71):
        order = np.argsort((bits - codes @ query_codes[query]) // 2, kind="stable")[:top_k]
        found = np.flatnonzero((labels @ query_labels[query])[order]) + 1
        expected = (np.arange(1, len(found) + 1) / found).mean() if len(found) else 0.0
        assert got[query] == pytest.approx(expected, abs=1e-13)


def test_rows_beyond_the_last_of_a_block_count_nowhere():
    # The second block has four rows; in the first, the next four were the nearest, and relevant.
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (4100, 24)) * 2 - 1
    codes[:8], relevant = 1, rng.random(4100) < 0.5
    relevant[:8] = [False] * 4 + [True] * 4
    labels = np.repeat(relevant[:, None], 128, axis=1)
    query = np.ones((1, 24)), np.ones((1, 128), bool)
    got = metrics.average_precisions(*query, codes, labels, 100, "stable")
    found = np.flatnonzero(relevant[np.argsort(-codes.sum(axis=1), kind="stable")][:100]) + 1
    assert got[0] == pytest.approx((np.arange(1, len(found) + 1) / found).mean(), abs=1e-13)


def test_stable_order_holds_for_queries_of_many_classes_and_of_none():
    # Classes of one item each, of the whole database, of no item, and ids that need 64 bits.
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (300, 9)) * 2 - 1
    ids = np.array([*range(90), *[-(2**62)] * 210])
    query_labels = np.array([-(2**62), 5, -7, 89, -(2**62), 0, 2**62])
    got = metrics.average_precisions(codes[:7], query_labels, codes, ids, None, "stable")
    for query in range(7):
        order = np.argsort((9 - codes @ codes[query]) // 2, kind="stable")
        found = np.flatnonzero(ids[order] == query_labels[query]) + 1
        expected = (np.arange(1, len(found) + 1) / found).mean() if len(found) else 0.0
        assert got[query] == pytest.approx(expected, abs=1e-13)


def test_equal_codes_lie_in_one_group():
    ranking = metrics.rank(np.ones((9, 10)), np.zeros(9, int), np.ones((50, 10)), np.arange(50) % 5)
    assert (ranking.items[:, 0] == 50).all() and (ranking.relevant[:, 0] == 10).all()


def test_no_thread_outlives_the_call():
    before = threading.active_count()
    metrics.rank(*sides(200, 50, 8, 3, False))
    assert threading.active_count() == before


@pytest.mark.parametrize("several", [False, True])
def test_measure_holds_what_the_single_functions_compute(several):
    ranking = metrics.rank(*sides(20, 400, 12, 6, several))
    got = metrics.measure(ranking, 50)
    assert set(got.average_precisions) == set(metrics.TIE_RULES)
    for ties, values in got.average_precisions.items():
        np.testing.assert_array_equal(values, metrics.ranked_precisions(ranking, 50, ties))
        assert got.mean_average_precision[ties] == values.mean()
    assert got.ball == metrics.ball_precision(ranking, 2)
    np.testing.assert_array_equal(got.by_radius.recall, metrics.curve_by_radius(ranking).recall)
    np.testing.assert_array_equal(got.by_rank.at, metrics.rank_grid(400))
    if several:
        assert got.ndcg == metrics.discounted_gains(ranking, 50).mean()
        assert got.acg == metrics.average_cumulative_gains(ranking, 50).mean()
        assert got.weighted_map == metrics.weighted_precisions(ranking, 50).mean()
    else:
        assert got.ndcg is got.acg is got.weighted_map is None
    assert got.queries_without_relevant == 0


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, bool])
def test_codes_and_labels_of_any_dtype_rank_alike(dtype):
    query_codes, query_labels, codes, labels = sides(5, 90, 10, 70, True)
    expected = metrics.rank(query_codes, query_labels, codes, labels).by_grade
    signs = dtype in (np.int8, np.int64, np.float32)
    left, right = (
        c.astype(dtype) if signs else (c > 0).astype(dtype) for c in (query_codes, codes)
    )
    got = metrics.rank(left, query_labels.astype(dtype), right, labels.astype(dtype)).by_grade
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("wrong", [2, -1])
def test_labels_of_one_byte_that_are_neither_zero_nor_one_are_refused(wrong):
    labels = np.array([[0, 1], [wrong, 0]], np.int8)
    with pytest.raises(ValueError, match="query_labels must be multi-hot"):
        metrics.rank(np.ones((2, 4)), labels, np.ones((2, 4)), labels)


@pytest.mark.parametrize("wrong", [2, -2, -128, 127, 3])
def test_codes_of_one_byte_that_are_no_signs_are_refused(wrong):
    codes = np.ones((5000, 4), np.int8)
    codes[4999, 3] = wrong
    with pytest.raises(ValueError, match=f"database_codes must hold only.*the first {wrong}"):
        metrics.rank(codes[:1], [0], codes, np.zeros(5000, int))
