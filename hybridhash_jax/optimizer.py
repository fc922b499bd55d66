"""Optimizers and learning-rate schedules, made with Optax."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hybridhash_jax.parameters import (
    check_patterns,
    joined,
    map_paths,
    matches,
    parts_by_flag,
    without_flagged,
)
from input_pipeline.options import Option

OPTIMIZERS = ("rmsprop", "adam", "adamw", "sgd")
SCHEDULES = ("constant", "step", "warmup_cosine")


def _factors_problem(entries: Any) -> str | None:
    try:
        for entry in entries or ():
            parse_factor(entry)
    except ValueError as error:
        return str(error)
    return None


def _epochs_problem(epochs: Any) -> str | None:
    numbers = all(type(x) in (int, float) and 0 < x < math.inf for x in epochs)
    return None if numbers else "give numbers of epochs above 0, such as (8, 12)"


OPTIONS = (
    Option("name", "optimizer", OPTIMIZERS),
    Option("schedule", "of the learning rate", SCHEDULES),
    Option("learning_rate", "highest learning rate", above=0),
    Option("warmup_epochs", "linear rise of the learning rate", at_least=0),
    Option("step_epochs", "after which the rate drops", problem=_epochs_problem),
    Option("step_factor", "what each step multiplies the rate by", above=0),
    Option("weight_decay", "strength of the decay", at_least=0),
    Option("clip_norm", "largest norm of the gradient", above=0),
    Option("momentum", "of sgd", at_least=0, below=1),
    Option("nesterov", "whether sgd looks ahead", (True, False)),
    Option("beta1", "of adam and adamw", at_least=0, below=1),
    Option("beta2", "of adam and adamw", at_least=0, below=1),
    Option("learning_rate_factors", "rates of their own", problem=_factors_problem),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def make_schedule(
    schedule: str,
    learning_rate: float,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    step_epochs: Sequence[float] = (),
    step_factor: float = 0.1,
) -> optax.Schedule:
    """Learning rate as a function of the step.

    "constant"; "step", which multiplies by `step_factor` after each of `step_epochs`; or
    "warmup_cosine", a half cosine to 0. All of them rise linearly from 0 over the first
    `warmup_epochs`; "constant" and "step" are multiplied by that rise, the cosine begins after it.
    """
    _BY_NAME["schedule"].check(schedule)
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if warmup_steps >= total_steps:
        raise ValueError(
            f"optimizer.warmup_epochs={warmup_epochs} ({warmup_steps} steps) leaves none of the "
            f"{total_steps} steps at the full learning rate; shorten it or train longer"
        )
    if schedule == "warmup_cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup_steps else learning_rate, learning_rate, warmup_steps, total_steps
        )
    if schedule == "constant":
        return _with_warmup(optax.constant_schedule(learning_rate), warmup_steps)
    if not step_epochs:
        raise ValueError('schedule="step" needs optimizer.step_epochs, for example (8, 12)')
    drops = {round(epoch * steps_per_epoch): step_factor for epoch in step_epochs}
    steps = optax.piecewise_constant_schedule(learning_rate, drops)
    return _with_warmup(steps, warmup_steps)


def _with_warmup(schedule: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    if not warmup_steps:
        return schedule
    return lambda step: schedule(step) * jnp.minimum(step / warmup_steps, 1.0)


def weight_decay_mask(params: Any, exclude: Sequence[str]) -> Any:
    """A pytree of booleans like `params`: False where a pattern of `exclude` is found in the path.

    Paths look like `levels/0/layers/1/attention/qkv/kernel`; see `check_patterns`.
    """
    _check("weight_decay_exclude", exclude, params)
    return map_paths(lambda path: not matches(exclude, path), params)


def frozen_mask(params: Any, frozen: Sequence[str]) -> Any:
    """A pytree of booleans like `params`: True where a pattern of `frozen` is found in the path.

    A ValueError if all are frozen, and those of `check_patterns`.
    """
    _check("frozen", frozen, params)
    mask = map_paths(lambda path: matches(frozen, path), params)
    if all(jax.tree.leaves(mask)):
        raise ValueError(
            f"optimizer.frozen={tuple(frozen)} freezes every parameter, so that nothing would be "
            'trained; leave some out, for example with "^(patch_embed|levels)/"'
        )
    return mask


def parse_factor(entry: str) -> tuple[str, float]:
    """(pattern, factor) of "PATTERN=FACTOR", split at the last "="; else a ValueError."""
    pattern, separator, number = entry.rpartition("=") if isinstance(entry, str) else ("", "", "")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not (pattern and separator and math.isfinite(factor) and factor > 0):
        raise ValueError(
            f"optimizer.learning_rate_factors: {entry!r}; accepted: PATTERN=FACTOR with a factor "
            'above 0, such as "levels/0=0.1" (optimizer.frozen is for parameters to leave alone)'
        )
    return pattern, factor


def learning_rate_multipliers(params: Any, factors: Sequence[str]) -> Any:
    """A pytree of floats like `params`: the factor of the first pattern found in the path, else 1.

    Errors are those of `parse_factor` and `check_patterns`.
    """
    parsed = [parse_factor(entry) for entry in factors]
    _check("learning_rate_factors", [pattern for pattern, _ in parsed], params)

    def multiplier(path: str) -> float:
        return next((factor for pattern, factor in parsed if re.search(pattern, path)), 1.0)

    return map_paths(multiplier, params)


def _check(option: str, patterns: Sequence[str], params: Any) -> None:
    paths = jax.tree.leaves(map_paths(str, params))
    check_patterns(f"optimizer.{option}", patterns, paths)


def make_optimizer(
    params: Any,
    *,
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float = 0.0,
    weight_decay_exclude: Sequence[str] = (),
    clip_norm: float | None = None,
    momentum: float = 0.9,
    nesterov: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.999,
    learning_rate_factors: Sequence[str] = (),
    frozen: Sequence[str] = (),
) -> optax.GradientTransformation:
    """The gradient transformation; of `params`, or their shapes, only paths are used.

    "rmsprop" has PyTorch's semantics, as the authors used it: decay 0.99, eps 1e-8 outside the
    root, accumulator from 0, no momentum. Weight decay is added to the gradient before it, as L2,
    for all but "adamw", where it is decoupled, and spares what `weight_decay_exclude` finds.
    `momentum` and `nesterov` are for "sgd", `beta1` and `beta2` for "adam" and "adamw". `clip_norm`
    is the largest global norm of the gradient; None does not clip.

    Of `params` only the paths are used. The first pattern of `learning_rate_factors`
    ("PATTERN=FACTOR") in a path multiplies the learning rate, and with "adamw" the decay. What
    `frozen` finds gets no update and no decay, has no state here, and does not count in the norm
    that is clipped. Errors are those of `frozen_mask` and `learning_rate_multipliers`.
    """
    _BY_NAME["name"].check(name)
    mask = weight_decay_mask(params, weight_decay_exclude)
    left_out = parts_by_flag(frozen_mask(params, frozen)) if frozen else False
    mask = without_flagged(mask, left_out)
    parts: list[optax.GradientTransformation] = []
    if clip_norm is not None:
        parts.append(optax.clip_by_global_norm(clip_norm))
    if weight_decay and name != "adamw":
        parts.append(optax.add_decayed_weights(weight_decay, mask=mask))
    if name == "adamw":
        parts.append(optax.adamw(learning_rate, beta1, beta2, weight_decay=weight_decay, mask=mask))
    elif name == "adam":
        parts.append(optax.adam(learning_rate, beta1, beta2))
    elif name == "rmsprop":
        parts.append(
            optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False, initial_scale=0.0)
        )
    else:
        parts.append(optax.sgd(learning_rate, momentum=momentum or None, nesterov=nesterov))
    # Nothing is added where neither is given: the state keeps the paths of older checkpoints.
    if frozen:
        parts = [_on_the_rest(optax.chain(*parts), left_out)]
    if learning_rate_factors:
        parts.append(_scale_updates(learning_rate_multipliers(params, learning_rate_factors)))
    return optax.chain(*parts)


def _on_the_rest(
    transformation: optax.GradientTransformation, left_out: Any
) -> optax.GradientTransformation:
    """Zero updates for what `parts_by_flag` says, of which nothing is kept; else as it is."""

    def init(params: Any) -> optax.MaskedState:  # the name of older checkpoints
        return optax.MaskedState(transformation.init(without_flagged(params, left_out)))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.MaskedState]:
        own = None if params is None else without_flagged(params, left_out)
        rest = without_flagged(updates, left_out)
        rest, inner = transformation.update(rest, state.inner_state, own)
        zeros = jax.tree.map(jnp.zeros_like, updates)
        return joined(zeros, rest, left_out), optax.MaskedState(inner)

    return optax.GradientTransformation(init, update)


def _scale_updates(multipliers: Any) -> optax.GradientTransformation:
    def scale(updates: Any, params: Any = None) -> Any:
        del params
        return jax.tree.map(lambda update, factor: update * factor, updates, multipliers)

    return optax.stateless(scale)
