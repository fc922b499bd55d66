"""Cut-offs, radii and places that are no whole numbers are refused in words."""

import subprocess
import sys

import numpy as np
import pytest

from hybridhash_jax import metrics
from hybridhash_jax.metrics import arguments

CODES, LABELS = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 0, 1])


@pytest.mark.parametrize("value", [np.inf, np.nan, 5.7, 5.0, True, np.True_, "5", 0, -3, [5], b"1"])
def test_a_cut_off_is_a_whole_number(value):
    with pytest.raises(ValueError, match="top_k must be a whole number of 1 or more, or None"):
        arguments.check_top_k(value, 9)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1.5, True, "2", -1, None])
def test_a_radius_is_a_whole_number(value):
    with pytest.raises(ValueError, match="radius must be a whole number of 0 or more"):
        arguments.check_radius(value)


@pytest.mark.parametrize("value", [[1.5], [True], ["5"], [0], [[1], [1, 2]], [None], [np.nan]])
def test_places_are_whole_numbers(value):
    ranking = metrics.rank(CODES, LABELS, CODES, LABELS)
    with pytest.raises(ValueError, match="places must be whole numbers") as error:
        metrics.curve_by_rank(ranking, value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int64, np.uint64])
def test_integers_of_numpy_are_taken(kind):
    ranking = metrics.rank(CODES, LABELS, CODES, LABELS)
    np.testing.assert_array_equal(
        metrics.ranked_precisions(ranking, kind(1)), metrics.ranked_precisions(ranking, 1)
    )
    assert metrics.ball_precision(ranking, kind(127)) == metrics.ball_precision(ranking, 127)
    assert metrics.curve_by_rank(ranking, [kind(2)]).at.tolist() == [2]


@pytest.mark.slow
def test_every_function_refuses_them():
    # A process of its own: here beartype would refuse them before the functions do.
    program = """
import numpy as np
from hybridhash_jax import metrics
codes, labels = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 0, 1])
ranking = metrics.rank(codes, labels, codes, labels)
for value in (float("inf"), float("nan"), 5.7, True, "5"):
    for call in (
        lambda: metrics.measure(ranking, value),
        lambda: metrics.ranked_precisions(ranking, value),
        lambda: metrics.average_cumulative_gains(ranking, value),
        lambda: metrics.discounted_gains(ranking, value),
        lambda: metrics.weighted_precisions(ranking, value),
        lambda: metrics.average_precisions(codes, labels, codes, labels, value),
        lambda: metrics.mean_average_precision(codes, labels, codes, labels, value),
        lambda: metrics.ball_precision(ranking, value),
        lambda: metrics.curve_by_rank(ranking, [value]),
    ):
        try:
            call()
        except ValueError as error:
            assert "whole number" in str(error) and repr(value) in str(error), error
        else:
            raise AssertionError(value)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
