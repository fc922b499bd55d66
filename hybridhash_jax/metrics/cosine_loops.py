"""The loops of a ranking by similarity, compiled by Numba: one query a call.

A database item is one sort key: 2 * (minus its similarity in steps), plus 1 if it is relevant.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt16, UInt64

from hybridhash_jax.metrics.numba_typed import compiled
from hybridhash_jax.metrics.pair_loops import shared_labels
from hybridhash_jax.metrics.precision_sums import expected_precisions

_STEPS = 1_000_000  # similarities from -1 to 1 are rounded to whole numbers of 1e-6

Keys = Int32[np.ndarray, "N"]


@compiled
def sort_keys(
    products: Float32[np.ndarray, "N"],
    scales: Float64[np.ndarray, "N"],
    scale: float,
    query_labels: UInt64[np.ndarray, "L"],
    labels: UInt64[np.ndarray, "L N"],
    by_class: bool,
    shared: UInt16[np.ndarray, "N"],
    keys: Keys,
) -> None:
    """Writes the keys of similarities `products` * `scales` * `scale`; overwrites `shared`."""
    shared_labels(query_labels, labels, by_class, 0, shared)
    for i in range(keys.shape[0]):
        steps = np.int32(np.rint(products[i] * (scales[i] * scale) * _STEPS))
        keys[i] = 2 * -steps + (shared[i] != 0)


@compiled
def expected_precision(keys: Keys, places: int, harmonic: Float64[np.ndarray, "places"]) -> float:
    """AP@places of sorted keys, expected over the orders of equal similarities."""
    items, relevant = np.zeros((1, len(keys)), np.int64), np.zeros((1, len(keys)), np.int64)
    group = -1
    for i in range(len(keys)):
        if i == 0 or keys[i] >> 1 != keys[i - 1] >> 1:
            group += 1
        items[0, group] += 1
        relevant[0, group] += keys[i] & 1
    result = np.empty(1)
    expected_precisions(items, relevant, relevant, places, harmonic, result)
    return result[0]
