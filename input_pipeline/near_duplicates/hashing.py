"""The perceptual hash of an image: pHash by the discrete cosine transform, 64 bits."""

import numpy as np
from PIL import Image

BITS = 64
_SIDE, _KEPT = 32, 8
# Rows are the first cosines of a type-II transform of 32 values.
_COSINES = np.cos(np.pi / (2 * _SIDE) * np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1))


def perceptual_hash(pixels: np.ndarray) -> np.uint64:
    """The pHash of uint8 [h, w, 3] or grey [h, w]; its hexadecimal digits are ImageHash.phash's.

    32 x 32 grey pixels by Lanczos, the 8 x 8 lowest frequencies, a bit each: is it above their
    median. Near-duplicates are a few bits apart, other photographs about 32.
    """
    picture = Image.fromarray(pixels).convert("L")
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return hashes_of(np.asarray(small)[None])[0]


def hashes_of(small: np.ndarray) -> np.ndarray:
    """The hashes, uint64 [N], of grey pictures that are reduced already, [N, 32, 32]."""
    # Rounded, so that what is 0 or the same by symmetry is so whatever the order of additions.
    frequencies = np.round(_COSINES @ small.astype(np.float64) @ _COSINES.T, 4)
    values = frequencies.reshape(len(small), BITS)
    bits = values > np.median(values, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
