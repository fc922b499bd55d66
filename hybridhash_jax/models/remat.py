"""Rematerialisation: computing activations again in the backward pass instead of keeping them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

REMAT = ("none", "layers", "dots")


def call(module: nnx.Module, remat: str, *inputs: Any) -> Any:
    """`module(*inputs)`, keeping of its inside what `remat` says for the backward pass.

    "none" keeps everything, "layers" only the inputs, "dots" also what its linear layers gave. The
    result and the gradients are the same.
    """
    if remat == "none":
        return module(*inputs)
    graphdef, params = nnx.split(module)
    pure = jax.checkpoint(lambda params, *x: nnx.merge(graphdef, params)(*x), policy=_policy(remat))
    return pure(params, *inputs)


def call_in_turn(
    layers: Sequence[Any], remat: str, x: jax.Array, scales: jax.Array | None
) -> jax.Array:
    """x through equal layers, one after the other, as `call` does each.

    They are the body of one loop: otherwise XLA may compute all of them again at once, and then
    nothing is saved.

    Args:
      layers: modules of the same structure, called with (x, an entry of `scales` or None).
      remat: see `call`; not "none".
      x: what the first is given.
      scales: an entry a layer, or None.
    """
    if len(layers) == 1:
        return call(layers[0], remat, x, None if scales is None else scales[0])
    graphdef, _ = nnx.split(layers[0])
    params = jax.tree.map(lambda *x: jnp.stack(x), *[nnx.split(layer)[1] for layer in layers])

    def body(x: jax.Array, layer: tuple[Any, jax.Array | None]) -> tuple[jax.Array, None]:
        return nnx.merge(graphdef, layer[0])(x, layer[1]), None

    # A loop keeps the two computations apart by itself.
    body = jax.checkpoint(body, policy=_policy(remat), prevent_cse=False)
    return lax.scan(body, x, (params, scales))[0]


def _policy(remat: str) -> Any:
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
