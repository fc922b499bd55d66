"""Precision and recall by rank and by radius, against all orders and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings

from hybridhash_jax import metrics
from tests.metrics.ranking_cases import cases


@settings(max_examples=60)
@given(cases())
def test_expected_and_bounds_at_every_rank_are_those_of_all_orders(case):
    found = np.array([np.cumsum(grades > 0) for grades in case.orders()])
    at, total = np.arange(1, found.shape[1] + 1), max(int(found[0, -1]), 1)
    for ties, count in (
        ("expected", found.mean(axis=0)),
        ("optimistic", found.max(axis=0)),
        ("pessimistic", found.min(axis=0)),
    ):
        curve = metrics.curve_by_rank(case.rank(), at, ties)
        np.testing.assert_allclose(curve.precision, count / at, rtol=0, atol=1e-13)
        np.testing.assert_allclose(curve.recall, count / total, rtol=0, atol=1e-13)


def two_queries() -> metrics.Ranking:
    # Query 0 sees distances 0, 1, 3 with relevant first and last; query 1, from 3 bits away, the
    # reverse, and nothing relevant.
    database = [[1, 1, 1], [1, 1, -1], [-1, -1, -1]]
    return metrics.rank([[1, 1, 1], [-1, -1, -1]], [7, 9], database, [7, 3, 7])


def test_curve_by_rank_of_two_queries():
    curve = metrics.curve_by_rank(two_queries(), [3, 1, 2, 50])
    np.testing.assert_array_equal(curve.at, [3, 1, 2, 3])
    np.testing.assert_allclose(curve.precision, np.array([2 / 3, 1, 1 / 2, 2 / 3]) / 2)
    np.testing.assert_allclose(curve.recall, np.array([1, 1 / 2, 1 / 2, 1]) / 2)


def test_curve_by_radius_of_two_queries():
    curve = metrics.curve_by_radius(two_queries())
    np.testing.assert_array_equal(curve.at, [0, 1, 2, 3])
    np.testing.assert_allclose(curve.precision, np.array([1, 1 / 2, 1 / 2, 2 / 3]) / 2)
    np.testing.assert_allclose(curve.recall, np.array([1 / 2, 1 / 2, 1 / 2, 1]) / 2)


def test_empty_balls_count_zero_and_their_share_is_told():
    codes = np.ones((4, 8))
    codes[1, :2], codes[2, :3], codes[3] = -1, -1, -1
    ranking = metrics.rank([[1] * 8, [1] * 4 + [-1] * 4], [0, 0], codes, [0, 1, 0, 0])
    # Query 0 has two items within 2 bits, one relevant; query 1 has none.
    assert metrics.ball_precision(ranking) == metrics.BallPrecision(0.25, 0.5)
    everything = metrics.ball_precision(ranking, 99)
    assert everything == metrics.BallPrecision(0.75, 0.0)


def test_the_last_rank_and_the_last_radius_hold_the_whole_database():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (90, 5))
    ranking = metrics.rank(
        rng.integers(0, 2, (9, 11)), labels[:9], rng.integers(0, 2, (90, 11)), labels
    )
    share = ((labels[:9] @ labels.T) > 0).mean()
    for curve in (metrics.curve_by_rank(ranking), metrics.curve_by_radius(ranking)):
        assert curve.precision[-1] == pytest.approx(share, abs=1e-14)
        assert curve.recall[-1] == pytest.approx(np.mean(labels[:9].any(axis=1)), abs=1e-14)
        assert (np.diff(curve.recall) >= -1e-15).all()


def test_the_rank_grid_runs_from_one_to_the_database_size():
    for size in (1, 2, 150, 128_503):
        grid = metrics.rank_grid(size)
        assert grid[0] == 1 and grid[-1] == size and len(grid) <= 200
        assert (np.diff(grid) > 0).all()


@pytest.mark.parametrize("places", [[0, 1], [1.5], [[1]], [-3]])
def test_places_that_are_no_ranks_are_refused(places):
    with pytest.raises(ValueError, match="places must be whole numbers"):
        metrics.curve_by_rank(two_queries(), places)


def test_rules_and_radii_that_a_curve_cannot_have_are_refused():
    with pytest.raises(ValueError, match='"expected", "optimistic" or "pessimistic"; got \'stable'):
        metrics.curve_by_rank(two_queries(), ties="stable")
    with pytest.raises(ValueError, match="radius must be a whole number of 0 or more; got -1"):
        metrics.ball_precision(two_queries(), -1)
