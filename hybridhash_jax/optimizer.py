"""Optimizers and learning-rate schedules, made with Optax."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import optax

OPTIMIZERS = ("rmsprop", "adamw", "sgd")
SCHEDULES = ("constant", "step", "warmup_cosine")


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
    "warmup_cosine", a linear rise from 0 over `warmup_epochs` and a half cosine to 0.
    """
    if schedule == "constant":
        return optax.constant_schedule(learning_rate)
    if schedule == "step":
        if not step_epochs:
            raise ValueError('schedule="step" needs optimizer.step_epochs, for example (8, 12)')
        drops = {round(epoch * steps_per_epoch): step_factor for epoch in step_epochs}
        return optax.piecewise_constant_schedule(learning_rate, drops)
    if schedule == "warmup_cosine":
        warmup_steps = round(warmup_epochs * steps_per_epoch)
        if warmup_steps >= total_steps:
            raise ValueError(
                f"optimizer.warmup_epochs={warmup_epochs} ({warmup_steps} steps) leaves none of "
                f"the {total_steps} steps for the cosine; shorten it or train longer"
            )
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup_steps else learning_rate, learning_rate, warmup_steps, total_steps
        )
    raise ValueError(f"schedule={schedule!r} is unknown; accepted: {', '.join(SCHEDULES)}")


def weight_decay_mask(params: Any, exclude: Sequence[str]) -> Any:
    """A pytree of booleans like `params`: False where a pattern of `exclude` is found in the path.

    Paths look like `levels/0/layers/1/attention/qkv/kernel`.

    Raises:
      ValueError: a pattern is no regular expression or is found in no path.
    """
    paths = [_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for pattern in exclude:
        try:
            found = any(re.search(pattern, path) for path in paths)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"optimizer.weight_decay_exclude: {pattern!r} is no regular expression ({error})"
            ) from None
        if not found:
            raise ValueError(
                f"optimizer.weight_decay_exclude: {pattern!r} matches no parameter. "
                f"Parameters look like: {', '.join(paths[:: max(1, len(paths) // 6)])}"
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(re.search(pattern, _path(path)) for pattern in exclude), params
    )


def _path(path: Any) -> str:
    text = jax.tree_util.keystr(path, simple=True, separator="/")
    return text.removesuffix("/value")


def make_optimizer(
    params: Any,
    *,
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float = 0.0,
    weight_decay_exclude: Sequence[str] = (),
    clip_norm: float | None = None,
    momentum: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> optax.GradientTransformation:
    """The gradient transformation.

    "rmsprop" has PyTorch's semantics, as the authors used it: decay 0.99, eps 1e-8 outside the
    root, accumulator from 0, no momentum. Weight decay is added to the gradient before it, as L2,
    for "rmsprop" and "sgd"; it is decoupled for "adamw".

    Args:
      params: the parameters, or their shapes; only paths are used.
      name: one of `OPTIMIZERS`.
      learning_rate: a number or a schedule.
      weight_decay, weight_decay_exclude: its strength, and patterns of what is spared.
      clip_norm: largest global norm of the gradient; None does not clip.
      momentum: for "sgd". beta1, beta2: for "adamw".
    """
    mask = weight_decay_mask(params, weight_decay_exclude)
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if name == "adamw":
        parts.append(optax.adamw(learning_rate, beta1, beta2, weight_decay=weight_decay, mask=mask))
        return optax.chain(*parts)
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=mask))
    if name == "rmsprop":
        parts.append(
            optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False, initial_scale=0.0)
        )
    elif name == "sgd":
        parts.append(optax.sgd(learning_rate, momentum=momentum or None))
    else:
        raise ValueError(f"optimizer.name={name!r} is unknown; accepted: {', '.join(OPTIMIZERS)}")
    return optax.chain(*parts)
