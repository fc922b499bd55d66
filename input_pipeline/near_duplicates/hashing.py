"""The perceptual hash of an image: pHash by the discrete cosine transform, 64 bits."""

import numpy as np
from PIL import Image

BITS = 64
SIDE, KEPT = 32, 8
# Rows are the first cosines of a type-II transform of 32 values.
COSINES = np.cos(np.pi / (2 * SIDE) * np.outer(np.arange(KEPT), 2 * np.arange(SIDE) + 1))


def perceptual_hash(pixels: np.ndarray) -> np.uint64:
    """The pHash of uint8 [h, w, 3] or grey [h, w]; its hexadecimal digits are ImageHash.phash's.

    32 x 32 grey pixels by Lanczos, the 8 x 8 lowest frequencies, a bit each: is it above their
    median. Near-duplicates are a few bits apart, other photographs about 32.
    """
    picture = Image.fromarray(pixels).convert("L")
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return hashes_of(np.asarray(small)[None])[0]


def hashes_of(small: np.ndarray) -> np.ndarray:
    """The hashes, uint64 [N], of grey pictures that are reduced already, [N, 32, 32]."""
    return hashes_of_frequencies(COSINES @ small.astype(np.float64) @ COSINES.T)


def hashes_of_frequencies(frequencies: np.ndarray) -> np.ndarray:
    """The hashes, uint64 [...], of the 8 x 8 lowest frequencies, [..., 8, 8]."""
    # Rounded, so that what is 0 or the same by symmetry is so whatever the order of additions.
    values = np.round(frequencies, 4).reshape(-1, BITS)
    bits = values > np.median(values, axis=1, keepdims=True)
    hashes = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return hashes.reshape(frequencies.shape[:-2])
