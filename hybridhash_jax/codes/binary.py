"""Binary codes: from embeddings to {-1, +1}, eight to a byte, and their Hamming distances."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int8, Int16, Num, UInt8, UInt16, UInt32, UInt64

# Rows named in an error message; more would bury the advice that follows them.
_ROWS_SHOWN = 5

Codes = Int8[np.ndarray, "N K"]  # -1 and +1
Packed = UInt8[np.ndarray, "N bytes"]
Words = (
    UInt8[np.ndarray, "1 N"]
    | UInt16[np.ndarray, "1 N"]
    | UInt32[np.ndarray, "1 N"]
    | UInt64[np.ndarray, "W N"]
)
# uint8 up to 255 bits.
Distances = UInt8[np.ndarray, "Q M"] | Int16[np.ndarray, "Q M"]


def binarize(embeddings: npt.ArrayLike) -> Codes:
    """Takes the sign of each embedding, [N, K] real numbers; 0 and -0.0 count as +1.

    Another shape, or NaN, is a ValueError.
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


def check_codes(codes: npt.ArrayLike, name: str = "codes") -> Codes:
    """Returns codes [N, K] of -1/+1 or 0/1, of bool or any real dtype, in one form.

    Everything else is a ValueError, which calls the array `name`.
    """
    array = np.asarray(codes)
    _check_matrix(name, array)
    ones = array == 1
    is_zero_one = (ones | (array == 0)).all()
    if not is_zero_one and not (ones | (array == -1)).all():
        raise ValueError(
            f"{name} must hold only -1 and +1, or only 0 and 1; {_describe_values(array)}. "
            f"{_advice(array)}"
        )
    return _signs(ones)


def pack(codes: npt.ArrayLike) -> Packed:
    """Packs codes, [N, K] of -1/+1 or 0/1, eight a byte: +1 is a set bit, the first the highest.

    The unused low bits of the last byte are 0. Errors are those of `check_codes`.
    """
    return np.packbits(check_codes(codes) > 0, axis=1)


def unpack(packed: npt.ArrayLike, bits: int) -> Codes:
    """Inverts `pack`, for uint8 [N, ceil(bits / 8)]; another shape or type is a ValueError."""
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


def hamming_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> Distances:
    """Counts the differing bits of every pair of codes: d = (K - a.b) / 2, exactly.

    `a` [Q, K] and `b` [M, K] are of -1/+1 or 0/1; Q may be 0. A ValueError as from `check_codes`,
    or where the code lengths differ, or K > 32767.
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
    for row, query in zip(distances, left_words.T, strict=True):
        row[:] = np.bitwise_count(right_words ^ query[:, None]).sum(axis=0, dtype=row.dtype)
    return distances


def distance_dtype(bits: int) -> type[np.unsignedinteger] | type[np.signedinteger]:
    """Returns the dtype of distances 0..bits; ValueError above 32767 bits."""
    if bits > np.iinfo(np.int16).max:
        raise ValueError(f"codes of {bits} bits are not supported; 32767 bits is the most.")
    return np.uint8 if bits <= np.iinfo(np.uint8).max else np.int16


def to_words(bits: Num[np.ndarray, "N K"] | Bool[np.ndarray, "N K"]) -> Words:
    """Packs each row into the fewest machine words, word-major; a value above 0 is a set bit.

    Rows may lie in memory in any order. For comparing in memory: the order of bits in a word depends on the machine, equal rows give
    equal words, padding is 0. `pack` is for storing.
    """
    packed = np.ascontiguousarray(np.packbits(bits > 0, axis=1))  # its order is that of `bits`
    width = packed.shape[1]
    word_bytes = next((size for size in (1, 2, 4) if width <= size), 8)
    padded = np.pad(packed, ((0, 0), (0, -width % word_bytes)))
    return np.ascontiguousarray(padded.view(f"u{word_bytes}").T)


def _signs(positive: Bool[np.ndarray, "N K"]) -> Codes:
    # np.where of two scalars took 25 times as long. Row-major, whatever the order of the argument.
    return np.ascontiguousarray(positive).view(np.int8) * np.int8(2) - np.int8(1)


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


def _advice(array: np.ndarray) -> str:
    if array.dtype == np.uint8:
        return (
            "These look packed, eight bits a byte: unpack them with codes.unpack, which takes the "
            "code length."
        )
    return "Pass continuous embeddings through codes.binarize first."


def _describe_values(array: np.ndarray) -> str:
    odd = array[(array != 1) & (array != 0) & (array != -1)]
    if odd.size == 0:
        return "got -1, 0 and 1 mixed"
    return f"{odd.size} of {array.size} values are others, the first {odd[0]!s}"
