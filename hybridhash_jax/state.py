"""All that a training run carries from step to step, as one immutable pytree."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import optax

from hybridhash_jax.parameters import part_like

Tree = TypeVar("Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state after some steps."""

    step: jax.Array  # int32 scalar, steps taken; randomness is drawn from (seed, step)
    params: Any  # an nnx.State
    opt_state: Any
    method: Any = None  # the method's state, such as a memory bank; None where it keeps nothing
    ema: Any = None  # the parameters' moving average, or None where none is kept
    # Parameters that follow the trained ones and are never evaluated, see `Method.second`; without
    # those that nothing trains. None where the method wants none.
    teacher: Any = None

    @property
    def evaluated_params(self) -> Any:
        """What is evaluated: the moving average where there is one."""
        return self.params if self.ema is None else self.ema

    def starting_at(self, params: Any) -> Self:
        """The same with other parameters, at which the average begins too."""
        # The step gives its buffers away, so the average needs its own.
        ema = None if self.ema is None else jax.tree.map(jnp.copy, params)
        teacher = None
        if self.teacher is not None:
            teacher = jax.tree.map(jnp.copy, part_like(params, self.teacher))
        return dataclasses.replace(self, params=params, ema=ema, teacher=teacher)


def evaluated_part(state: TrainState, *, method: bool) -> TrainState:
    """The state without what an evaluation does not need; `method`: whether its state is needed."""
    return dataclasses.replace(
        state,
        params=state.params if state.ema is None else None,
        opt_state=None,
        method=state.method if method else None,
        teacher=None,
    )


def first_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    method: Any,
    *,
    averaged: bool = False,
    teacher: Any = None,
) -> TrainState:
    """The state before the first step; with `averaged` the average begins at `params`."""
    ema = jax.tree.map(jnp.copy, params) if averaged else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, optimizer.init(params), method, ema, teacher)


def create_state(make: Callable[..., Tree], shardings: Any, *arguments: Any) -> Tree:
    """`make(*arguments)`, allocated where `shardings` says, in one jitted call."""
    return jax.jit(make, out_shardings=shardings)(*arguments)


def update_average(average: Tree, params: Tree, step: jax.Array, decay: float) -> Tree:
    """The new average, d * average + (1 - d) * params with d = `decay_at(step, decay)`."""
    kept = decay_at(step, decay)
    return jax.tree.map(lambda mean, new: mean + (1 - kept) * (new - mean), average, params)


def decay_at(step: jax.Array, decay: float) -> jax.Array:
    """The decay after `step` earlier updates: min(decay, (1 + step) / (10 + step)).

    The rise at the start lets the average forget the initial parameters.
    """
    step = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))
