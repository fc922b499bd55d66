"""Binary codes: from embeddings to {-1, +1}, eight to a byte, and their Hamming distances."""

import numpy as np
import numpy.typing as npt

# Rows named in an error message; more would bury the advice that follows them.
_ROWS_SHOWN = 5


def binarize(embeddings: npt.ArrayLike) -> np.ndarray:
    """Takes the sign of each embedding, with 0 (and -0.0) counted as +1.

    Args:
        embeddings: [N, K] real numbers; infinities have a sign and are allowed.

    Returns:
        int8 [N, K] of -1 and +1.

    Raises:
        ValueError: `embeddings` is not two-dimensional, or holds NaN.
    """
    array = np.asarray(embeddings)
    _check_matrix("embeddings", array)
    bad_rows = np.flatnonzero(np.isnan(array).any(axis=1))
    if bad_rows.size:
        shown = ", ".join(str(row) for row in bad_rows[:_ROWS_SHOWN])
        raise ValueError(
            f"{int(np.isnan(array).sum())} of the {array.size} embedding values are NaN, in "
            f"{bad_rows.size} of {array.shape[0]} rows (first: {shown}). NaN has no sign: "
            "look for a diverged training run or a damaged checkpoint."
        )
    return _signs(array >= 0)


def check_codes(codes: npt.ArrayLike, name: str = "codes") -> np.ndarray:
    """Brings codes written as -1/+1 or as 0/1 to one form, and refuses everything else.

    An array of ones only reads the same both ways: every bit is +1.

    Args:
        codes: [N, K], K >= 1, of bool or any real dtype.
        name: what the error message calls the array.

    Returns:
        int8 [N, K] of -1 and +1.

    Raises:
        ValueError: wrong number of axes, no bits, or a value that is no code bit.
    """
    array = np.asarray(codes)
    _check_matrix(name, array)
    ones = array == 1
    is_zero_one = (ones | (array == 0)).all()
    if not is_zero_one and not (ones | (array == -1)).all():
        raise ValueError(
            f"{name} must hold only -1 and +1, or only 0 and 1; {_describe_values(array)}. "
            "Pass continuous embeddings through codes.binarize first."
        )
    return _signs(ones)


def pack(codes: npt.ArrayLike) -> np.ndarray:
    """Stores eight codes a byte, +1 as a set bit, the first code in the highest bit.

    Args:
        codes: [N, K] of -1/+1 or 0/1.

    Returns:
        uint8 [N, ceil(K / 8)]; the unused low bits of the last byte are 0.

    Raises:
        ValueError: as `check_codes`.
    """
    return np.packbits(check_codes(codes) > 0, axis=1)


def unpack(packed: npt.ArrayLike, bits: int) -> np.ndarray:
    """Inverts `pack`.

    Args:
        packed: uint8 [N, ceil(bits / 8)].
        bits: length K of a code, which the bytes alone do not tell.

    Returns:
        int8 [N, bits] of -1 and +1.

    Raises:
        ValueError: `packed` is not a uint8 matrix, or its width does not fit `bits`.
    """
    array = np.asarray(packed)
    _check_matrix("packed", array)
    if array.dtype != np.uint8:
        raise ValueError(f"packed must be uint8, as codes.pack returns it; got {array.dtype}.")
    width = array.shape[1]
    if not 8 * (width - 1) < bits <= 8 * width:
        raise ValueError(
            f"rows of {width} bytes hold codes of {8 * width - 7} to {8 * width} bits, not "
            f"{bits}. Pass the code length that was packed."
        )
    return _signs(np.unpackbits(array, axis=1, count=bits) == 1)


def hamming_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
    """Counts the differing bits of every pair of codes: d = (K - a.b) / 2, exactly.

    Args:
        a: [Q, K] of -1/+1 or 0/1.
        b: [M, K] of -1/+1 or 0/1.

    Returns:
        uint8 [Q, M] while K <= 255, int16 above; Q or M may be 0.

    Raises:
        ValueError: as `check_codes`, or the code lengths differ, or K > 32767.
    """
    left, right = check_codes(a, "a"), check_codes(b, "b")
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"a has {left.shape[1]} bits and b has {right.shape[1]}; codes can be compared "
            "only with codes of the same length."
        )
    bits = left.shape[1]
    left_words, right_words = to_words(left), to_words(right)
    distances = np.empty((len(left), len(right)), distance_dtype(bits))
    for row, query in enumerate(left_words.T):
        distances[row] = word_distance(query, right_words, bits)
    return distances


def distance_dtype(bits: int) -> type[np.unsignedinteger] | type[np.signedinteger]:
    """Names the narrowest dtype offered for distances 0..bits; ValueError above 32767 bits."""
    if bits > np.iinfo(np.int16).max:
        raise ValueError(f"codes of {bits} bits are not supported; 32767 bits is the most.")
    return np.uint8 if bits <= np.iinfo(np.uint8).max else np.int16


def to_words(bits: np.ndarray) -> np.ndarray:
    """Packs each row into the fewest machine words, word-major, for bitwise arithmetic.

    The order of bits in a word depends on the machine, so words are for comparing in memory
    (equal rows give equal words, padding is 0); `pack` is for storing.

    Args:
        bits: [N, K], bool, or any number: a value above 0 is a set bit.

    Returns:
        uint8, uint16, uint32 or uint64 [W, N]; several words only when K > 64.
    """
    packed = np.packbits(bits > 0, axis=1)
    width = packed.shape[1]
    word_bytes = next((size for size in (1, 2, 4) if width <= size), 8)
    padded = np.pad(packed, ((0, 0), (0, -width % word_bytes)))
    return np.ascontiguousarray(padded.view(f"u{word_bytes}").T)


def word_distance(query: np.ndarray, database: np.ndarray, bits: int) -> np.ndarray:
    """Computes the Hamming distances of one code to all others, as popcount(a xor b).

    On one core this took 1.6 ns a pair at 32 bits and 2.0 ns at 64; a float32 matrix product
    took 6.9 and 10 ns, since K is too short a contraction to keep a BLAS kernel busy.

    Args:
        query: [W], one column of `to_words`.
        database: [W, M], from `to_words`.
        bits: K, at most 32767; decides the dtype.

    Returns:
        uint8 or int16 [M], see `distance_dtype`.
    """
    distance = np.bitwise_count(database[0] ^ query[0]).astype(distance_dtype(bits), copy=False)
    for word, other in zip(query[1:], database[1:], strict=True):
        distance += np.bitwise_count(other ^ word)
    return distance


def _signs(positive: np.ndarray) -> np.ndarray:
    # np.where of two scalars took 25 times as long.
    return positive.view(np.int8) * np.int8(2) - np.int8(1)


def _check_matrix(name: str, array: np.ndarray) -> None:
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name} must be a matrix with one row an item and at least one column; got shape "
            f"{array.shape}. Use x[None, :] for a single item."
        )
    # bfloat16 counts, although it is no subtype of np.number.
    is_number = np.issubdtype(array.dtype, np.number) or array.dtype.name == "bfloat16"
    if array.dtype.kind == "c" or not (is_number or array.dtype == bool):
        raise ValueError(f"{name} must hold real numbers; got dtype {array.dtype}.")


def _describe_values(array: np.ndarray) -> str:
    odd = array[(array != 1) & (array != 0) & (array != -1)]
    if odd.size == 0:
        return "got -1, 0 and 1 mixed"
    return f"{odd.size} of {array.size} values are others, the first {odd[0]!s}"
