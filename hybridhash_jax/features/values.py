"""Which features float16 holds."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.messages import shortened

_LARGEST = float(np.finfo(np.float16).max)


def check_values(features: np.ndarray, sums: np.ndarray, names: Sequence[str] | None) -> None:
    """Refuses features [k, ...] that float16 does not hold; DataError names the images."""
    axes = tuple(range(1, features.ndim))
    with np.errstate(over="ignore", invalid="ignore"):
        is_held = np.isfinite(features.astype(np.float16)).all(axes)
    if is_held.all():
        return
    bad = np.flatnonzero(~is_held)
    shown = [names[i] if names is not None else sums[i].tobytes().hex() for i in bad.tolist()]
    values = features[bad].astype(np.float64)
    what = (
        f"reach {np.abs(values).max():.3g}, and kept features end at {_LARGEST:,.0f}"
        if np.isfinite(values).all()
        else "are not finite numbers"
    )
    raise DataError(
        f"the features of {len(bad):,} of {len(sums):,} images {what} ({shortened(shown, 3)}). Look "
        "at the weights; --config.features.keep=never computes features anew in every run"
    )
