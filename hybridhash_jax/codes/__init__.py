"""Binary codes: from embeddings, packed, compared; `codes.files` keeps them on disk."""

from hybridhash_jax.codes.binary import (
    binarize,
    check_codes,
    distance_dtype,
    hamming_distance,
    pack,
    to_words,
    unpack,
)

__all__ = [
    "binarize",
    "check_codes",
    "distance_dtype",
    "hamming_distance",
    "pack",
    "to_words",
    "unpack",
]
