"""All that a training run carries from step to step, as one immutable pytree."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hybridhash_jax.methods.memory_bank import MemoryBank


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Attributes:
    step: int32 scalar, the number of steps taken; randomness is drawn from (seed, step).
    params: the network's parameters (an nnx.State).
    opt_state: the optimizer's state.
    bank: the memory bank, or None when the loss takes its pairs from the batch.
    ema: the parameters' moving average, or None where none is kept.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    bank: MemoryBank | None
    ema: Any = None

    @property
    def evaluated_params(self) -> Any:
        """What is evaluated: the moving average where there is one."""
        return self.params if self.ema is None else self.ema


def first_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    bank: MemoryBank | None,
    *,
    averaged: bool = False,
) -> TrainState:
    """The state before the first step.

    With `averaged` it keeps a moving average of the parameters, which begins at their first values.
    """
    ema = jax.tree.map(jnp.copy, params) if averaged else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), bank, ema)


def create_state(
    init_params: Callable[[], Any],
    optimizer: optax.GradientTransformation,
    create_bank: Callable[[], MemoryBank | None],
    sharding: Any,
    *,
    averaged: bool = False,
) -> TrainState:
    """`first_state`, allocated where `sharding` says (one jitted call).

    Args:
      init_params: draws the parameters.
      optimizer: whose state is allocated with them.
      create_bank: allocates the bank, where there is one.
      sharding: one for everything, or a `TrainState` of them (see `layout.Layout`).
      averaged: see `first_state`.
    """

    def create() -> TrainState:
        return first_state(init_params(), optimizer, create_bank(), averaged=averaged)

    return jax.jit(create, out_shardings=sharding)()
