"""scikit-learn's handwritten digits, the demo's images."""

import importlib.metadata

import numpy as np

from input_pipeline.sets.pooled import PooledImages

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def read_digits() -> PooledImages:
    """The 1,797 digits: 8x8 grey values 0..16, here RGB bytes."""
    from sklearn.datasets import load_digits  # imported late: it takes a second

    values, target = load_digits(return_X_y=True)
    grey = np.round(np.reshape(values, (-1, 8, 8)) * (255 / 16)).astype(np.uint8)
    return PooledImages(
        images=np.repeat(grey[..., None], 3, axis=-1),
        class_ids=np.asarray(target, np.int64),
        provenance=(
            "the 1,797 handwritten digits of 8x8 pixels bundled with scikit-learn "
            f"{importlib.metadata.version('scikit-learn')}"
        ),
        official=None,  # there is no published figure they would have to match
    )
