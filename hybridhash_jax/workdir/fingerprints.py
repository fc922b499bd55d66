"""Checksums of arrays, which tell a damaged checkpoint and another model."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hybridhash_jax.parameters import flatten


def model_fingerprint(params: Any) -> str:
    """Eight hex digits that are the same for bit-identical parameters, and hardly for others."""
    return f"{sum(fingerprint(flatten(params)).values()) % 2**32:08x}"


def fingerprint(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    """A 32-bit checksum of each array's bits, each weighted by an odd number of its position.

    The sums wrap and do not depend on their order, so neither on the devices.
    """
    sums = jax.device_get(_checksums(dict(arrays)))
    return {name: int(value) for name, value in sums.items()}


def fingerprint_on_host(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """`fingerprint` of arrays in the host's memory, for which nothing is compiled."""
    return {name: _checksum_on_host(x) for name, x in arrays.items()}


def _checksum_on_host(x: np.ndarray) -> int:
    bits = np.ascontiguousarray(x).reshape(-1).view(f"u{x.dtype.itemsize}").astype(np.uint32)
    odd = np.arange(x.size, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return int(np.sum(bits * odd, dtype=np.uint32))


@jax.jit
def _checksums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _checksum(x) for name, x in arrays.items()}


def _checksum(x: jax.Array) -> jax.Array:
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    bits = lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    position = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        stride = math.prod(x.shape[axis + 1 :])
        position += lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
    return jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32)
