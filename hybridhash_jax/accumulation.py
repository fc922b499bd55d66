"""Gradients of a large batch from parts of it, in the memory of one part."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Tree = TypeVar("Tree")
Loss = Callable[[jax.Array], tuple[jax.Array, Any]]


def check_parts(batch_size: int, parts: int, num_devices: int) -> None:
    """Refuses a batch whose parts the devices cannot share evenly.

    Raises:
      ValueError: names the nearest batch sizes that divide.
    """
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
    apply: Callable[..., jax.Array], loss: Loss, params: Any, inputs: Any, parts: int = 1
) -> tuple[tuple[jax.Array, Any], Any]:
    """Loss and gradients where the loss needs the outputs of the whole batch at once.

    The gradient cache of Gao et al. (2021, arXiv 2101.06983): the parts' outputs first, without
    keeping what the backward pass needs; then the loss of all of them and its gradient with
    respect to the outputs; then each part again, backwards from its share of that gradient. The
    result is that of one pass over the batch, for one more forward pass.

    Args:
      apply: (params, inputs of B images) -> outputs [B, ...], each image's from its own inputs.
      loss: outputs -> (scalar, anything).
      params: what the gradient is taken of.
      inputs: arrays [B, ...]; `parts` divides B.
      parts: how many; 1 is one pass.

    Returns:
      What `loss` returned, and the gradients.
    """
    if parts == 1:
        return jax.value_and_grad(lambda p: loss(apply(p, inputs)), has_aux=True)(params)
    split = split_parts(inputs, parts)
    outputs = join_parts(lax.map(lambda part: apply(params, part), split))
    value, cotangent = jax.value_and_grad(loss, has_aux=True)(outputs)

    def add(total: Any, part: tuple[Any, jax.Array]) -> tuple[Any, None]:
        own, of_outputs = part
        (gradient,) = jax.vjp(lambda p: apply(p, own), params)[1](of_outputs)
        return jax.tree.map(jnp.add, total, gradient), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    return value, lax.scan(add, zeros, (split, split_parts(cotangent, parts)))[0]


def summed_gradients(
    loss: Callable[[Any, Any], jax.Array], params: Any, inputs: Any, parts: int = 1
) -> tuple[jax.Array, Any]:
    """Loss and gradients where the loss is a sum over the parts.

    Args:
      loss: (params, inputs of some images) -> their share of the batch's loss.
      params: what the gradient is taken of.
      inputs: arrays [B, ...]; `parts` divides B.
      parts: how many; 1 is one pass.

    Returns:
      The sums over the parts.
    """
    differentiate = jax.value_and_grad(loss)
    if parts == 1:
        return differentiate(params, inputs)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, differentiate(params, part)), None

    zeros = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    return lax.scan(add, zeros, split_parts(inputs, parts))[0]
