"""Vectors that some model made of images, in the place of the images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.images.encoded import EncodedImages


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of N images, and what is known of the images.

    `array` [N, D] is float16 or float32 and mostly mapped from a file: slices and single rows are
    read when they are asked for, and whoever copies all of it may need more memory than there is.
    """

    array: np.ndarray
    names: Sequence[str] = ()  # what each image is called; empty where nobody said
    pictures: EncodedImages | None = None  # where the names lead to image files

    def __len__(self) -> int:
        return len(self.array)
