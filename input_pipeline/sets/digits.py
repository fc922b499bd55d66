"""scikit-learn's handwritten digits, the demo's images."""

import importlib.metadata

import numpy as np

from input_pipeline.sets.pooled import PooledImages

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def read_digits() -> PooledImages:
    """The 1,797 digits: 8x8 grey values 0..16, here RGB bytes."""
    package = importlib.metadata.distribution("scikit-learn")
    # The file alone, since importing scikit-learn takes two seconds.
    table = package.locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(table), delimiter=",")
    grey = np.round(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return PooledImages(
        images=np.repeat(grey[..., None], 3, axis=-1),
        class_ids=rows[:, -1].astype(np.int64),
        provenance=(
            "the 1,797 handwritten digits of 8x8 pixels bundled with scikit-learn "
            f"{package.version}"
        ),
        official=None,  # there is no published figure they would have to match
    )
