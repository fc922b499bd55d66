"""What a run takes from features of its training images before the first step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.methods import Method
from hybridhash_jax.runtime.console import progress

# At most so many training images are looked at, evenly spaced: to fit a method, and for the mean
# and deviation of features.
_FIT_ROWS, _NORM_ROWS = 50_000, 2_000
_NORM = "feature_norm"


def is_needed(method: Method, params: Any) -> bool:
    """Is the method fitted to features, or are they to be normalised by numbers not known yet?"""
    return method.is_fitted or _has_no_mean(params)


def _has_no_mean(params: Any) -> bool:
    return _NORM in params and not np.any(np.asarray(params[_NORM]["mean"][...]))


def chosen_rows(method: Method, rows: np.ndarray) -> np.ndarray:
    """Those of the training rows whose features are looked at."""
    count = min(_FIT_ROWS if method.is_fitted else _NORM_ROWS, len(rows))
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def read_features(
    compute: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    count: int,
    mesh: Mesh,
) -> np.ndarray:
    """Float32 [n, C] of `count` images, maps averaged over space; without unreadable ones.

    `compute` maps (params, a batch's inputs) to features, `batches` are this process's slices.
    """
    found = []
    with progress("looking at training images", count) as told:
        for batch in batches:
            inputs = sharding.put_batch({name: batch[name] for name in ("image", "mask")}, mesh)
            mask = np.asarray(sharding.replicate(inputs["mask"], mesh))
            features = np.asarray(compute(params, inputs["image"]), np.float32)[mask]
            found.append(features.mean(axis=tuple(range(1, features.ndim - 1))))
            told.update(int(mask.sum()))
    return np.concatenate(found)


def fitted_values(
    method: Method, features: np.ndarray, bits: int, params: Any
) -> dict[str, np.ndarray]:
    """Float32 values by the path of the parameter, taken from features [n, C].

    The mean of features and their one deviation, where `params` want them, and a fitted method's
    kernel and bias.

    Raises:
      ValueError: features that the method cannot be fitted to.
    """
    values = {}
    if _has_no_mean(params):
        mean = features.mean(axis=0, dtype=np.float64)
        deviation = np.sqrt(np.square(features - mean).mean(dtype=np.float64))
        if not deviation > 0:
            raise ValueError(
                f"the features of {len(features):,} training images are all the same; look at the "
                "images and at init.weights"
            )
        values = {f"{_NORM}/mean": mean, f"{_NORM}/deviation": deviation}
        features = (features - mean) / deviation
    elif _NORM in params:
        norm = {name: np.asarray(params[_NORM][name][...]) for name in ("mean", "deviation")}
        features = (features - norm["mean"]) / norm["deviation"]
    if method.is_fitted:
        kernel, bias = method.fit(features.astype(np.float32), bits)
        values |= {"hash_head/kernel": kernel, "hash_head/bias": bias}
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return sharding.of_first_process(values)
