"""Gradients of a large batch from parts of it, in the memory of one part."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from input_pipeline.options import Option

Tree = TypeVar("Tree")
OPTION = Option("accumulation_steps", "parts a batch is computed in", at_least=1, may_change=True)
Loss = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


def check_parts(batch_size: int, parts: int, num_devices: int) -> None:
    """Refuses a batch whose parts the devices cannot share evenly; names the nearest that do."""
    unit = parts * num_devices
    if batch_size % unit:
        below = max(batch_size // unit, 1) * unit
        raise ValueError(
            f"batch_size={batch_size} cannot be cut into accumulation_steps={parts} equal parts "
            f"for {num_devices} device(s); use a multiple of {unit}, for example {below} or "
            f"{below + unit}"
        )


def split_parts(tree: Tree, parts: int) -> Tree:
    """[B, ...] -> [parts, B / parts, ...] for every array; part j takes the rows j, j + parts, ...

    So every device that holds a contiguous share of the batch holds the same share of each part,
    and nothing is sent between devices.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)


def join_parts(tree: Tree) -> Tree:
    """The inverse of `split_parts`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def gradients_through_outputs(
    apply: Callable[..., tuple[jax.Array, Any]],
    loss: Loss,
    params: Any,
    inputs: Any,
    parts: int = 1,
) -> tuple[tuple[jax.Array, Any], Any, Any]:
    """Loss and gradients where the loss needs the outputs of the whole batch at once.

    With several parts this is the gradient cache of Gao et al. (2021, arXiv 2101.06983): first the
    outputs of all parts, without what a backward pass needs; then the loss and its gradient with
    respect to them; then each part again, backwards from its share of that gradient. The result
    is that of one pass over the batch, for one more forward pass.

    `apply` maps (params, inputs of B images) to (outputs [B, ...], statistics), a pytree that may
    be empty; each image's output is from its own inputs, or batch norm's from those of its part.
    `loss` maps (outputs, params) to (scalar, anything). `parts` divides B.

    Returns what `loss` returned, the gradients, and the mean of the parts' statistics.
    """
    if parts == 1:

        def whole(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            outputs, statistics = apply(params, inputs)
            value, other = loss(outputs, params)
            return value, (other, statistics)

        (value, (other, statistics)), gradient = jax.value_and_grad(whole, has_aux=True)(params)
        return (value, other), gradient, statistics
    split = split_parts(inputs, parts)
    outputs, of_parts = lax.map(lambda part: apply(params, part), split)
    statistics = jax.tree.map(lambda x: x.mean(0), of_parts)
    outputs = join_parts(outputs)
    value, (cotangent, direct) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
        outputs, params
    )

    def add(total: Any, part: tuple[Any, jax.Array]) -> tuple[Any, None]:
        own, of_outputs = part
        _, backward, _ = jax.vjp(lambda p: apply(p, own), params, has_aux=True)
        (gradient,) = backward(of_outputs)
        return jax.tree.map(jnp.add, total, gradient), None

    gradient, _ = lax.scan(add, direct, (split, split_parts(cotangent, parts)))
    return value, gradient, statistics
