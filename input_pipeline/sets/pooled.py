"""What the readers of data sets that fit in memory have in common."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class PooledImages:
    """All images of a data set, official training images first, and where they come from.

    `images` are uint8 [N, H, W, 3], or grey [N, H, W, 1]; `class_ids` int64 [N]; the first
    `num_train` are the published training images. `official` says whether these are the published
    files, None if that cannot be told.
    """

    images: np.ndarray
    class_ids: np.ndarray
    provenance: str
    official: bool | None
    num_train: int = 0  # 0 where nobody published which they are
