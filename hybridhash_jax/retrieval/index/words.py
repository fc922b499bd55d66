"""Codes as an index keeps them: in words of 64 bits."""

import sys

import numpy as np
from jaxtyping import UInt8, UInt64


def words_of(bits: int) -> int:
    """How many words a code has."""
    return -(-bits // 64)


def check_unused_bits(packed: UInt8[np.ndarray, "*N bytes"], bits: int) -> None:
    """Raises ValueError where bits behind the last one of a code are set: they would be compared."""
    unused = -bits % 8
    if (packed[..., -1] & ((1 << unused) - 1)).any():
        raise ValueError(
            f"packed codes of {bits} bits leave the lowest {unused} bits of the last byte 0, as "
            "codes.pack does; here some of them are set, so these may be codes of more bits"
        )


def to_words(packed: UInt8[np.ndarray, "N bytes"]) -> UInt64[np.ndarray, "N words"]:
    """Packed codes, eight bytes a word, little-endian; the last word is filled up with zeros."""
    count, size = packed.shape
    padded = np.zeros((count, 8 * words_of(8 * size)), np.uint8)
    padded[:, :size] = packed
    words = padded.view("<u8")
    return words if sys.byteorder == "little" else words.astype(np.uint64)


def to_packed(words: UInt64[np.ndarray, "N words"], bits: int) -> UInt8[np.ndarray, "N bytes"]:
    """The reverse of `to_words`, for codes of `bits` bits."""
    raw = np.ascontiguousarray(words, "<u8").view(np.uint8)
    return np.ascontiguousarray(raw[:, : -(-bits // 8)])
