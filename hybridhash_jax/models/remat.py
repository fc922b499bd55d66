"""How a network calls its modules.

What is kept for the backward pass, and when parameters that are split over devices are gathered.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

Tree = TypeVar("Tree")
Gather = Callable[[Any], Any]
_gather: contextvars.ContextVar[Gather | None] = contextvars.ContextVar("gather", default=None)


@contextlib.contextmanager
def gathered_by(gather: Gather) -> Iterator[None]:
    """Modules that are called in this context take their parameters from `gather`, whole.

    Each module gathers its own just before it computes, and again in the backward pass.
    """
    before = _gather.set(gather)
    try:
        yield
    finally:
        _gather.reset(before)


def call(module: nnx.Module, remat: str, *inputs: Any) -> Any:
    """`module(*inputs)`, keeping of its inside what `remat` says for the backward pass.

    "none" keeps everything, "layers" only the inputs, "dots" also the outputs of its linear layers.
    The result and the gradients are the same.
    """
    if remat == "none" and _gather.get() is None:
        return module(*inputs)
    graphdef, params = nnx.split(module)

    def pure(params: Any, *inputs: Any) -> Any:
        return nnx.merge(graphdef, whole(params))(*inputs)

    return jax.checkpoint(pure, policy=_POLICIES[remat])(params, *inputs)


def whole(params: Tree) -> Tree:
    """Parameters gathered for use, for a module that uses some of its own outside of `call`."""
    gather = _gather.get()
    return gather(params) if gather else params


def call_in_turn(
    layers: Sequence[Any],
    remat: str,
    x: jax.Array,
    scales: jax.Array | None,
    rates: Sequence[float],
) -> jax.Array:
    """Calls layers one after the other, as `call`.

    Each gets (x, its entry of `scales`, or None where its rate is 0). Those that differ in their
    parameters alone are traced once, and XLA gets the same program. With `remat` all have to be such
    ones, and are the body of one loop: otherwise XLA may recompute all of them at once, and then no
    memory is saved.
    """
    if remat == "none":
        for i, layer in enumerate(layers):
            graphdef, params = nnx.split(layer)
            own = None if scales is None or rates[i] == 0 else scales[i]
            x = _traced_once(graphdef, _gather.get(), params, x, own)
        return x
    if len(layers) == 1:
        return call(layers[0], remat, x, None if scales is None else scales[0])
    graphdef, _ = nnx.split(layers[0])
    params = jax.tree.map(lambda *x: jnp.stack(x), *[nnx.split(layer)[1] for layer in layers])

    def body(x: jax.Array, layer: tuple[Any, jax.Array | None]) -> tuple[jax.Array, None]:
        params, scale = layer
        return nnx.merge(graphdef, whole(params))(x, scale), None

    # A loop keeps the two computations apart by itself.
    body = jax.checkpoint(body, policy=_POLICIES[remat], prevent_cse=False)
    return lax.scan(body, x, (params, scales))[0]


# Tracing the step of `paper`, 19 layers, takes half the time then. Inline: of calls of a function
# the TPU's compiler makes a slower program.
@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _traced_once(
    graphdef: nnx.GraphDef[Any], gather: Gather | None, params: Any, *inputs: Any
) -> jax.Array:
    del gather  # `call` takes it; a trace is kept for one
    return call(nnx.merge(graphdef, params), "none", *inputs)


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name != "sharding_constraint"


_POLICIES: dict[str, Any] = {
    "none": _all_but_gathered,
    "layers": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
