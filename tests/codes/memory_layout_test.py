"""Arrays give the same codes and metrics wherever their values lie in memory."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhash_jax import codes, metrics


def big_endian(array):
    return array.astype(array.dtype.newbyteorder(">"))


def every_second(array):
    wide = np.zeros((2 * len(array), *(2 * n for n in array.shape[1:])), array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    flip = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[flip])[flip]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = (np.asfortranarray, every_second, backwards, big_endian, read_only)
layouts = st.lists(st.sampled_from(LAYOUTS), min_size=1, max_size=2)
dtypes = st.sampled_from([np.int8, np.int16, np.int64, np.float32, np.float64])


def laid_out(array, ways):
    found = array
    for way in ways:
        found = way(found)
    np.testing.assert_array_equal(found, array)
    return found


def signs(count, bits, seed):
    return np.where(np.random.default_rng(seed).random((count, bits)) < 0.5, -1, 1).astype(np.int8)


@settings(max_examples=60)
@given(st.integers(0, 9), st.integers(1, 140), layouts, dtypes, st.integers(0, 99))
def test_codes_are_packed_and_compared_by_value(count, bits, ways, dtype, seed):
    plain = signs(count, bits, seed)
    other = laid_out(plain.astype(dtype), ways)
    packed = codes.pack(plain)
    np.testing.assert_array_equal(codes.pack(other), packed)
    assert codes.pack(other).flags.c_contiguous
    np.testing.assert_array_equal(codes.to_words(other), codes.to_words(plain))
    np.testing.assert_array_equal(codes.unpack(laid_out(packed, ways), bits), plain)
    np.testing.assert_array_equal(codes.binarize(other), plain)
    differing = (plain[:, None] != plain).sum(axis=2)
    np.testing.assert_array_equal(codes.hamming_distance(other, plain), differing)
    np.testing.assert_array_equal(codes.hamming_distance(plain, other), differing)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 70), layouts, dtypes, st.integers(0, 99))
def test_statistics_are_those_of_the_contiguous_codes(count, bits, ways, dtype, seed):
    plain = signs(count, bits, seed)
    expected = metrics.code_statistics(plain)
    found = metrics.code_statistics(laid_out(plain.astype(dtype), ways))
    for field in dataclasses.fields(expected):
        name = field.name
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("by_class", [True, False])
@settings(max_examples=30)
@given(layouts, layouts, dtypes, st.integers(0, 99))
def test_metrics_are_those_of_the_contiguous_arrays(by_class, ways, label_ways, dtype, seed):
    rng = np.random.default_rng(seed)
    query, database = signs(6, 20, seed), signs(40, 20, seed + 1)
    if by_class:
        labels = rng.integers(-2, 3, 6), rng.integers(-2, 3, 40)
        others = tuple(x.astype(np.int32 if dtype is np.float32 else np.int64) for x in labels)
    else:
        labels = rng.integers(0, 2, (6, 70)), rng.integers(0, 2, (40, 70))
        others = tuple(x.astype(dtype) for x in labels)
    expected = metrics.measure(metrics.rank(query, labels[0], database, labels[1]), 11)
    sides = [laid_out(side.astype(dtype), ways) for side in (query, database)]
    other_labels = [laid_out(side, label_ways) for side in others]
    found = metrics.measure(metrics.rank(sides[0], other_labels[0], sides[1], other_labels[1]), 11)
    for ties, values in expected.average_precisions.items():
        np.testing.assert_array_equal(found.average_precisions[ties], values)
    np.testing.assert_array_equal(found.by_rank.precision, expected.by_rank.precision)
    assert (found.ball, found.ndcg, found.acg) == (expected.ball, expected.ndcg, expected.acg)
    assert found.queries_without_relevant == expected.queries_without_relevant
