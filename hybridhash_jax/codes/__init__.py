"""Binary codes: made, packed, compared, and kept in files."""

from hybridhash_jax.codes.binary import (
    binarize,
    check_codes,
    distance_dtype,
    hamming_distance,
    pack,
    to_words,
    unpack,
    word_distance,
)

__all__ = [
    "binarize",
    "check_codes",
    "distance_dtype",
    "hamming_distance",
    "pack",
    "to_words",
    "unpack",
    "word_distance",
]
