"""Optimistic and pessimistic mean average precision enclose every order, tightly."""

import numpy as np
import pytest
from hypothesis import given, settings

from hybridhash_jax import metrics
from tests.metrics.ranking_cases import Case, cases, precision_by_place


def bounds_of(case: Case, top_k: int | None) -> tuple[float, float]:
    ranking = case.rank()
    low, high = (
        metrics.ranked_precisions(ranking, top_k, ties)[0] for ties in ("pessimistic", "optimistic")
    )
    return low, high


@settings(max_examples=150)
@given(cases())
def test_bounds_are_the_extremes_over_all_orders(case):
    values = case.over_orders(precision_by_place)
    np.testing.assert_allclose(
        bounds_of(case, case.top_k), (values.min(), values.max()), rtol=0, atol=1e-13
    )


@settings(max_examples=60)
@given(cases(most=300, bits=4))
def test_bounds_enclose_the_other_two_rules(case):
    for top_k in (case.top_k, None):
        low, high = bounds_of(case, top_k)
        for ties in ("expected", "stable"):
            value = metrics.ranked_precisions(case.rank(), top_k, ties)[0]
            assert low - 1e-12 <= value <= high + 1e-12


def test_one_more_find_at_a_late_place_lowers_the_precision():
    # Places 1 and 2 hold a relevant item and another, place 3 one of two tied items.
    codes = [[1, 1, 1], [1, 1, -1], [1, -1, -1], [-1, 1, -1]]
    got = {
        ties: metrics.average_precisions([[1, 1, 1]], [0], codes, [0, 1, 1, 0], 3, ties)[0]
        for ties in metrics.TIE_RULES
    }
    found, not_found = (1 + 2 / 3) / 2, 1.0
    assert got["optimistic"] == not_found
    assert got["pessimistic"] == pytest.approx(found, abs=1e-15)
    assert got["expected"] == pytest.approx((found + not_found) / 2, abs=1e-15)
    assert got["stable"] == not_found


def test_without_ties_all_rules_agree():
    codes = 1 - 2 * np.tril(np.ones((30, 30), int))
    labels = np.random.default_rng(0).integers(0, 3, 30)
    for top_k in (1, 7, None):
        values = [
            metrics.average_precisions(np.ones((1, 30)), [0], codes, labels, top_k, ties)
            for ties in metrics.TIE_RULES
        ]
        np.testing.assert_allclose(np.ptp(values, axis=0), 0, atol=1e-14)


def test_bounds_of_equal_codes_are_relevant_first_and_last():
    size, relevant = 2000, 600
    labels = np.repeat([1, 0], [size - relevant, relevant])
    got = [
        metrics.average_precisions([[1]], [0], np.ones((size, 1)), labels, None, ties)[0]
        for ties in ("optimistic", "pessimistic", "stable")
    ]
    last = np.mean(np.arange(1, relevant + 1) / np.arange(size - relevant + 1, size + 1))
    assert got == pytest.approx([1.0, last, last], abs=1e-12)
