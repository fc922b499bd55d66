"""Binary codes: signs, packing, distances, and what is refused."""

import jaxtyping
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridhash_jax import codes


def random_codes(rows: int, bits: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, bits)).astype(np.int8) * 2 - 1


def test_binarize_counts_zero_as_plus_one():
    got = codes.binarize(np.array([[0.0, -0.0, 0.3], [-1e-30, np.inf, -np.inf]], np.float32))
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, [[1, 1, 1], [-1, 1, -1]])


def test_binarize_accepts_bfloat16():
    embeddings = np.array([[0.5, -0.25, 0.0]], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(codes.binarize(embeddings), [[1, -1, 1]])
    embeddings[0, 1] = np.nan
    with pytest.raises(ValueError, match="1 of the 3"):
        codes.binarize(embeddings)


def test_binarize_names_how_many_values_are_nan_and_where():
    embeddings = np.zeros((12, 4))
    embeddings[[3, 7], 1] = np.nan
    embeddings[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"3 of the 48 .* 2 of 12 rows \(first: 3, 7\)"):
        codes.binarize(embeddings)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (3, 0)])
def test_only_matrices_with_columns_are_accepted(shape):
    for function in (codes.binarize, codes.check_codes, codes.pack):
        with pytest.raises(ValueError, match="must be a matrix"):
            function(np.ones(shape))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.float16, np.float64])
def test_zero_one_codes_become_plus_minus_one(dtype):
    got = codes.check_codes(np.array([[0, 1], [1, 1]]).astype(dtype))
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, [[-1, 1], [1, 1]])


def test_codes_of_ones_only_are_all_plus_one():
    np.testing.assert_array_equal(codes.check_codes(np.ones((2, 3), bool)), np.ones((2, 3)))


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_plus_minus_one_codes_are_kept(dtype):
    expected = random_codes(5, 7)
    np.testing.assert_array_equal(codes.check_codes(expected.astype(dtype)), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[-1, 0, 1]], "-1, 0 and 1 mixed"),
        ([[1, 2, 1]], "1 of 3 values are others, the first 2"),
        ([[0.9, -0.8, 1.0]], "2 of 3 values are others, the first 0.9.*binarize"),
        ([[np.nan, 1.0, 1.0]], "the first nan"),
        ([["1", "0", "1"]], "must hold real numbers"),
        ([[1j, 1, 1]], "must hold real numbers"),
    ],
)
def test_other_values_are_no_codes(values, message):
    with pytest.raises(ValueError, match=message):
        codes.check_codes(np.array(values))


def test_pack_puts_the_first_code_in_the_highest_bit():
    packed = codes.pack([[1, -1, -1, -1, -1, -1, -1, 1, 1]])
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, [[0b10000001, 0b10000000]])


@given(st.integers(0, 5), st.integers(1, 70), st.integers(0, 99))
def test_unpack_inverts_pack(rows, bits, seed):
    original = random_codes(rows, bits, seed)
    packed = codes.pack(original)
    assert packed.shape == (rows, -(-bits // 8))
    np.testing.assert_array_equal(codes.unpack(packed, bits), original)


@pytest.mark.parametrize("bits", [8, 17, 0])
def test_unpack_refuses_a_length_that_does_not_fit_the_bytes(bits):
    with pytest.raises(ValueError, match=f"9 to 16 bits, not {bits}"):
        codes.unpack(np.zeros((1, 2), np.uint8), bits)


def test_unpack_refuses_bytes_of_another_dtype():
    with pytest.raises(ValueError, match="must be uint8.*int64"):
        codes.unpack(np.zeros((1, 2), np.int64), 16)


@pytest.mark.parametrize("bits", [1, 7, 8, 12, 16, 24, 32, 33, 48, 64, 65, 128, 255, 256, 300])
def test_hamming_distance_counts_differing_bits(bits):
    a, b = random_codes(9, bits, 1), random_codes(14, bits, 2)
    b[0] = -a[0]
    b[1] = a[0]
    got = codes.hamming_distance(a, b)
    assert got.dtype == (np.uint8 if bits <= 255 else np.int16)
    np.testing.assert_array_equal(got, (a[:, None] != b[None]).sum(axis=2))
    assert got[0, 0] == bits and got[0, 1] == 0


def test_hamming_distance_of_hand_written_codes():
    np.testing.assert_array_equal(
        codes.hamming_distance([[1, 1, 1], [-1, 1, -1]], [[1, 1, -1], [-1, -1, -1]]),
        [[1, 3], [1, 1]],
    )


def test_hamming_distance_accepts_an_empty_side():
    assert codes.hamming_distance(np.ones((0, 4)), np.ones((3, 4))).shape == (0, 3)


def test_codes_of_different_lengths_cannot_be_compared():
    with pytest.raises(ValueError, match="a has 3 bits and b has 4"):
        codes.hamming_distance(np.ones((1, 3)), np.ones((1, 4)))


def test_codes_too_long_for_the_distance_dtype_are_refused():
    with pytest.raises(ValueError, match="32768 bits"):
        codes.hamming_distance(np.ones((1, 32768)), np.ones((1, 32768)))


def test_shapes_in_signatures_are_checked_in_tests():
    with pytest.raises(jaxtyping.TypeCheckError, match="to_words"):
        codes.to_words(np.ones(3))
