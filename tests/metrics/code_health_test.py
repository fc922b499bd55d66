"""Balance, entropy and correlation of code bits."""

import numpy as np
import pytest

from hybridhash_jax import metrics


def test_entropy_is_one_for_a_balanced_bit_and_zero_for_a_constant_one():
    got = metrics.code_statistics([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]])
    quarter = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    np.testing.assert_allclose(got.bit_entropy, [0, 1, quarter], rtol=1e-15)
    assert not np.signbit(got.bit_entropy).any()
    # Codes 110, 100 twice, 111.
    assert got.code_entropy == pytest.approx(1.5, abs=1e-15)


@pytest.mark.parametrize("rows", [50, 70_000])
def test_correlation_is_pearsons(rows):
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((rows, 5)) < [0.5, 0.1, 0.7, 0.5, 0.5], 1, -1)
    codes[:, 3] = -codes[:, 0]
    codes[: rows // 2, 4] = codes[: rows // 2, 2]
    got = metrics.code_statistics(codes)
    expected = np.corrcoef(codes.T)
    np.testing.assert_allclose(got.bit_correlation, expected, rtol=0, atol=1e-12)
    assert got.bit_correlation[0, 3] == pytest.approx(-1, abs=1e-12)
    off_diagonal = np.abs(expected[~np.eye(5, dtype=bool)])
    assert got.mean_correlation == pytest.approx(off_diagonal.mean(), abs=1e-12)


def test_constant_bits_and_single_codes_correlate_with_nothing():
    for codes in ([[1, 1], [1, -1]], [[1, -1]]):
        got = metrics.code_statistics(codes)
        assert got.bit_correlation[0].tolist() == [0, 0]
        assert got.mean_correlation == 0
    assert metrics.code_statistics([[1, -1]]).code_entropy == 0
    assert metrics.code_statistics([[1], [-1]]).mean_correlation == 0


@pytest.mark.parametrize(
    ("health", "collapsed"),
    [
        ({"largest_share": 0.5}, True),
        ({"largest_share": 0.499}, False),
        ({"constant_bits": 8}, True),
        ({"constant_bits": 7}, False),
        ({"distinct_codes": 9}, True),
        ({"distinct_codes": 10}, False),
    ],
)
def test_a_collapse_is_named_by_each_of_its_symptoms(health, collapsed):
    healthy = {"constant_bits": 0, "distinct_codes": 500, "largest_share": 0.1}
    assert len(metrics.collapse_symptoms(32, 10, **healthy | health)) == collapsed


@pytest.mark.parametrize(("bits", "classes"), [(1, 10), (64, 2)])
def test_of_two_codes_or_classes_one_may_have_more_than_half(bits, classes):
    health = {"constant_bits": 0, "distinct_codes": 10}
    assert not metrics.collapse_symptoms(bits, classes, largest_share=0.6, **health)
    assert metrics.collapse_symptoms(bits, classes, largest_share=0.75, **health)
