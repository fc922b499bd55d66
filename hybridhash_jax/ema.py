"""An exponential moving average of the parameters."""

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def decay_at(step: jax.Array, decay: float) -> jax.Array:
    """The decay after `step` earlier updates: min(decay, (1 + step) / (10 + step)).

    The rise at the start lets the average forget the initial parameters.
    """
    step = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))


def update_average(average: Tree, params: Tree, step: jax.Array, decay: float) -> Tree:
    """decay * average + (1 - decay) * params, with the decay of `decay_at`.

    Args:
      average, params: pytrees of the same structure.
      step: how many updates came before.
      decay: between 0 and 1.
    """
    kept = decay_at(step, decay)
    return jax.tree.map(lambda mean, new: mean + (1 - kept) * (new - mean), average, params)
