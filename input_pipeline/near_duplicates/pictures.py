"""What is compared of an image: its hash, and a small grey picture of all of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from input_pipeline.near_duplicates.alignment import SIDE

# Fewer grey levels between the darkest and the brightest place: nothing to tell images apart by.
_FLAT_LEVELS = 8


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images that are compared, in the order of their rows.

    Attributes:
      hashes: uint64 [N], of `hashing.perceptual_hash`.
      small: uint8 [N, 64, 64], of `small_picture`; 4 kB an image.
      shapes: float64 [N], width / height.
    """

    hashes: np.ndarray
    small: np.ndarray
    shapes: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def of(cls, parts: Sequence[tuple[np.uint64, np.ndarray, float]]) -> "Pictures":
        """From the hash, the small picture and the shape of each image."""
        return cls(
            np.array([part[0] for part in parts], np.uint64),
            np.array([part[1] for part in parts], np.uint8).reshape(-1, SIDE, SIDE),
            np.array([part[2] for part in parts], np.float64),
        )

    def take(self, rows: np.ndarray) -> "Pictures":
        """Some of them, in this order."""
        return Pictures(self.hashes[rows], self.small[rows], self.shapes[rows])

    def flat(self) -> np.ndarray:
        """Which show next to nothing, bool [N]: such images are compared with no other."""
        values = self.small.reshape(len(self), SIDE * SIDE)
        if not len(self):
            return np.zeros(0, bool)
        return values.max(axis=1).astype(np.int16) - values.min(axis=1) < _FLAT_LEVELS


def small_picture(pixels: np.ndarray) -> np.ndarray:
    """The image uint8 [h, w, 3] or [h, w] in grey, squeezed into [64, 64]."""
    picture = Image.fromarray(pixels).convert("L")
    # Twice as large is as good and much faster where the image is large.
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(small)
