"""Graded relevance: NDCG, ACG and weighted mAP against all orders of small databases."""

import numpy as np
import pytest
from hypothesis import given, settings

from hybridhash_jax import metrics
from tests.metrics.ranking_cases import cases, ndcg_by_place, weighted_by_place


@settings(max_examples=100)
@given(cases())
def test_each_is_the_average_over_all_database_orders(case):
    for function, by_place in (
        (metrics.discounted_gains, ndcg_by_place),
        (metrics.weighted_precisions, weighted_by_place),
        (metrics.average_cumulative_gains, lambda grades, k: grades[:k].mean()),
    ):
        expected = case.over_orders(by_place).mean()
        assert function(case.rank(), case.top_k)[0] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(cases(most=200, bits=5))
def test_permuting_the_database_changes_nothing(case):
    order = np.random.default_rng(0).permutation(len(case.codes))
    before, after = case.rank(), case.rank(order)
    for function in (
        metrics.discounted_gains,
        metrics.weighted_precisions,
        metrics.average_cumulative_gains,
    ):
        np.testing.assert_array_equal(function(after, case.top_k), function(before, case.top_k))
        whole = function(before)
        for top_k in (len(order), len(order) + 3):
            np.testing.assert_array_equal(function(before, top_k), whole)


def test_with_one_label_an_item_weighted_map_is_map():
    rng = np.random.default_rng(2)
    ranking = metrics.rank(
        rng.integers(0, 2, (20, 6)), rng.integers(0, 4, 20),
        rng.integers(0, 2, (500, 6)), rng.integers(0, 4, 500),
    )  # fmt: skip
    for top_k in (3, 100, None):
        np.testing.assert_array_equal(
            metrics.weighted_precisions(ranking, top_k), metrics.ranked_precisions(ranking, top_k)
        )


def test_the_best_order_has_ndcg_one_and_acg_the_mean_of_its_grades():
    labels = [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    codes = [[1, 1, 1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]]
    ranking = metrics.rank([[1, 1, 1]], [[1, 1, 1]], codes, labels)
    assert metrics.discounted_gains(ranking) == pytest.approx([1.0], abs=1e-15)
    assert metrics.average_cumulative_gains(ranking, 2) == pytest.approx([2.5], abs=1e-15)
    # Places 1 to 3 are relevant, with the mean grades 3, 5/2 and 6/3.
    assert metrics.weighted_precisions(ranking) == pytest.approx([7.5 / 3], abs=1e-15)


def test_a_query_with_nothing_relevant_counts_zero():
    ranking = metrics.rank([[1]], [[0, 1]], [[1], [-1]], [[1, 0], [1, 0]])
    for function in (
        metrics.discounted_gains,
        metrics.weighted_precisions,
        metrics.average_cumulative_gains,
    ):
        np.testing.assert_array_equal(function(ranking, 1), [0.0])
    assert ranking.queries_without_relevant == 1
