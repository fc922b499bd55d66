"""Which batch norms use the statistics of their batch, and what these were.

A training step says so by a context, so that evaluation needs nothing and cannot get it wrong.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Statistics = dict[str, jax.Array]  # float32 [C] by the paths of the parameters that follow them
_Keep = Callable[[jax.Array, jax.Array], None]
_keepers: contextvars.ContextVar[Mapping[int, _Keep] | None] = contextvars.ContextVar(
    "keepers", default=None
)
_mask: contextvars.ContextVar[jax.Array | None] = contextvars.ContextVar("mask", default=None)


@contextlib.contextmanager
def normalised_by_batch(
    modules: Mapping[str, Any], mask: jax.Array | None = None
) -> Iterator[Statistics]:
    """In this context `modules`, by path, normalise by the mean and variance of their batch.

    Gives the statistics of those that were called, once they were. Of a head, rows where `mask`
    [B] is False do not count; a backbone counts all rows alike.
    """
    statistics: Statistics = {}

    def keeper(path: str) -> _Keep:
        def keep(mean: jax.Array, variance: jax.Array) -> None:
            statistics[f"{path}/running_mean"] = mean
            statistics[f"{path}/running_variance"] = variance

        return keep

    before = _keepers.set({id(module): keeper(path) for path, module in modules.items()})
    mask_before = _mask.set(mask)
    try:
        yield statistics
    finally:
        _keepers.reset(before)
        _mask.reset(mask_before)


def keeper_of(module: Any) -> _Keep | None:
    """Where `module` leaves (mean, variance) of its batch; None: it uses running statistics."""
    return (_keepers.get() or {}).get(id(module))


def counted_rows(count: int) -> jax.Array:
    """Float32 [count]: 1 for the rows of the batch that count, 0 for padding."""
    mask = _mask.get()
    return jnp.ones(count, jnp.float32) if mask is None else mask.astype(jnp.float32)
