"""Codes of classes: how far apart they are, and what their bits are worth."""

import numpy as np
import pytest

from hybridhash_jax.methods.central import centres
from tests.methods.central import golden


def distances(codes):
    codes = codes.astype(int)
    apart = (codes.shape[1] - codes @ codes.T) // 2
    return apart[~np.eye(len(codes), dtype=bool)]


@pytest.mark.parametrize("bits", [16, 32, 48, 64])
@pytest.mark.parametrize("classes", [10, 15])
def test_few_classes_are_half_the_bits_apart_and_no_bit_is_wasted(bits, classes):
    codes = centres.hash_centres(classes, bits)
    assert codes.dtype == np.int8
    assert set(np.unique(codes)) == {-1, 1}
    assert (distances(codes) == bits // 2).all()
    assert (codes.sum(axis=1, dtype=int) == 0).all()  # as many +1 as -1, and no row of ones
    votes = np.abs(codes.sum(axis=0, dtype=int))
    assert votes.max() < classes  # no bit is the same for every class
    alike = np.abs(codes.T.astype(int) @ codes.astype(int)) == classes
    assert alike.sum() == bits  # no bit equals another or its complement


# With as many classes as this there are just enough different bits, without complements.
@pytest.mark.parametrize(("classes", "bits"), [(5, 16), (6, 32), (7, 64)])
def test_bits_differ_with_as_few_classes_as_can_tell_them_apart(classes, bits):
    codes = centres.hash_centres(classes, bits)
    assert len(np.unique(codes, axis=1).T) == bits
    assert np.abs(codes.sum(axis=0, dtype=int)).max() < classes


@pytest.mark.parametrize(
    ("classes", "bits", "least", "complements"),
    [
        (63, 64, 32, 0),
        (64, 64, 32, 0),  # now with the row of ones
        (65, 64, 32, 1),
        (100, 64, 32, 36),
        (96, 48, 24, 48),
        (10, 30, 13, 0),  # of the matrix of order 32
    ],
)
def test_complements_come_last(classes, bits, least, complements):
    apart = distances(centres.hash_centres(classes, bits))
    assert apart.min() >= least
    assert (apart == bits).sum() == 2 * complements


# Above 2 K classes: as far as, or farther than, what the authors publish for such cases: 8 and 2.
@pytest.mark.parametrize(
    ("classes", "bits", "least"), [(100, 32, 10), (100, 16, 4), (80, 16, 4), (100, 48, 18)]
)
def test_random_codes_are_balanced_and_at_least_as_far_as_the_published_ones(classes, bits, least):
    codes = centres.hash_centres(classes, bits)
    assert (codes.sum(axis=1, dtype=int) == 0).all()
    assert distances(codes).min() >= least


@pytest.mark.parametrize(
    ("classes", "bits"), [(1, 1), (1, 16), (2, 2), (3, 1), (3, 7), (300, 8), (5, 3)]
)
def test_any_length_and_number_of_classes_has_codes(classes, bits):
    for make in (centres.hash_centres, centres.published_centres, centres.greedy_centres):
        codes = make(classes, bits)
        assert codes.shape == (classes, bits)
        assert set(np.unique(codes)) <= {-1, 1}


def test_ten_thousand_classes_have_codes_of_their_own():
    codes = centres.hash_centres(10_000, 64)
    assert centres.least_distance(codes) >= 16
    assert len(np.unique(codes, axis=0)) == 10_000


@pytest.mark.parametrize(
    ("make", "classes", "bits"),
    [
        (centres.hash_centres, 10, 48),
        (centres.hash_centres, 100, 24),
        (centres.greedy_centres, 9, 16),
    ],
)
def test_a_seed_gives_the_same_codes_again(make, classes, bits):
    np.testing.assert_array_equal(make(classes, bits), make(classes, bits))
    assert not np.array_equal(make(classes, bits), make(classes, bits, seed=1))


def test_greedy_codes_are_as_far_as_the_authors_ask_for():
    assert distances(centres.greedy_centres(4, 64)).min() >= 0.5 * 64
    assert distances(centres.greedy_centres(30, 64)).min() >= 0.4 * 64


@pytest.mark.parametrize(
    "case", ["8_10", "16_10", "16_20", "16_21", "32_10", "32_21", "64_21", "64_100"]
)
def test_published_codes_are_the_authors(case):
    bits, classes = map(int, case.split("_"))
    stored = golden.load("CSQ")[f"centres_{case}"]
    np.testing.assert_array_equal(centres.published_centres(classes, bits), stored)


# What the authors and DeepHash-pytorch draw at random depends on Python's generator: here are the
# rows that are not, and how far apart the others are.
@pytest.mark.parametrize("case", ["deephash_32_100", "deephash_16_100"])
def test_published_codes_of_many_classes_begin_with_hadamard_rows(case):
    stored = golden.load("CSQ")[case]
    classes, bits = stored.shape
    codes = centres.published_centres(classes, bits)
    np.testing.assert_array_equal(codes[: 2 * bits], stored[: 2 * bits])
    assert (codes[2 * bits :].sum(axis=1, dtype=int) == 0).all()
    assert distances(codes).min() >= distances(stored).min()


@pytest.mark.parametrize(
    "case", ["random_48_10", "random_32_100", "random_64_100", "random_48_100"]
)
def test_random_codes_are_at_least_as_far_as_the_authors_rule_gets(case):
    stored = golden.load("CSQ")[case]
    codes = centres.random_centres(*stored.shape)
    assert (codes.sum(axis=1, dtype=int) == stored.sum(axis=1, dtype=int)).all()
    assert distances(codes).min() >= distances(stored).min()


def test_distances_are_counted_in_blocks():
    codes = centres.random_centres(1500, 16)
    apart = distances(codes)
    least, mean, variance = centres.distance_score(codes)
    assert centres.least_distance(codes) == least == apart.min()
    np.testing.assert_allclose([mean, -variance], [apart.mean(), apart.var()], rtol=1e-6)
    near = (codes.astype(int) @ codes.T.astype(int) - 17 * np.eye(1500, dtype=int)).max(axis=1)
    np.testing.assert_array_equal(centres.too_near(codes, 3), np.flatnonzero(16 - near < 6))
