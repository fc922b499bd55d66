"""Where every array of a training state lies on its mesh."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hybridhash_jax.distributed.mesh import AXES, FSDP, batch_sharded, replicated
from hybridhash_jax.models.remat import gathered_by
from hybridhash_jax.state import TrainState

Tree = TypeVar("Tree")
Function = TypeVar("Function", bound=Callable[..., Any])
Sums = TypeVar("Sums", bound=Callable[[Any, Any], Any])

# Parameters with fewer elements stay whole: a message of its own would cost more than 16 KB.
SMALLEST_SHARDED = 4096


@dataclasses.dataclass(frozen=True)
class _Gather:
    """Makes parameters whole. Equal for equal meshes: what is traced with it is kept for it."""

    mesh: Mesh

    def __call__(self, params: Tree) -> Tree:
        return jax.tree.map(self._whole, params)

    def _whole(self, param: jax.Array) -> jax.Array:
        split = NamedSharding(self.mesh, parameter_spec(param.shape, self.mesh.shape[FSDP]))
        if split.is_fully_replicated:
            return param
        return _resharded(param, replicated(self.mesh), split)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the state of a run lies on its mesh. Made by `make_layout`.

    It is the `methods.Rows` of the run as well: how losses see rows that are split.
    """

    mesh: Mesh
    state: TrainState  # shapes and types, each leaf with its sharding
    rows: tuple[Any, ...]  # leaves of the method's state whose first axis is the training images

    @property
    def shardings(self) -> TrainState:
        """The sharding of every leaf of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.state)

    def place_params(self, params: Tree) -> Tree:
        """Parameters that are the same in all processes, where this layout has them."""
        return jax.jit(lambda tree: tree, out_shardings=self.shardings.params)(params)

    def on_whole_params(self, function: Function) -> Function:
        """`function` of whole parameters, called with parameters as they lie.

        It calls a network, whose modules each gather their own before they compute, so that only
        batches are split where the network runs. A gradient gathers them once more instead of
        keeping them since the forward pass, and is left summed up and split as the parameters are.
        """
        if self.mesh.shape[FSDP] == 1:
            return function

        @functools.wraps(function)
        def gathering(*args: Any, **kwargs: Any) -> Any:
            with gathered_by(_Gather(self.mesh)):
                return function(*args, **kwargs)

        return cast(Function, gathering)

    @property
    def _rows_are_whole(self) -> bool:
        return all(leaf.sharding.is_fully_replicated for leaf in self.rows)

    def gather(self, batch: Tree) -> Tree:
        """Arrays [B, ...] as they are compared with rows: whole where the rows are split.

        Every device then compares the batch with its own rows, and rows are never gathered. What has
        no gradient (labels, mask, index) is sent as bytes, in one message.
        """
        if self._rows_are_whole:
            return batch
        whole, split = replicated(self.mesh), batch_sharded(self.mesh)
        leaves, tree = jax.tree.flatten(batch)
        plain = [x for x in leaves if not jnp.issubdtype(x.dtype, jnp.inexact)]
        received = iter(_at_once(plain, lambda data: _resharded(data, whole, split)))
        gathered = [
            _resharded(x, whole, split) if jnp.issubdtype(x.dtype, jnp.inexact) else next(received)
            for x in leaves
        ]
        return jax.tree.unflatten(tree, gathered)

    def sum_over(self, sums: Sums) -> Sums:
        """`sums` of (a batch that is whole, rows) -> scalars, added up over devices' own rows."""
        if self._rows_are_whole:
            return sums

        def over_devices(batch: Any, rows: Any) -> Any:
            return lax.psum(sums(batch, rows), AXES)

        specs = (PartitionSpec(), PartitionSpec(AXES))
        split = jax.shard_map(
            over_devices, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec()
        )
        return cast(Sums, split)

    def on_each(self, function: Sums) -> Sums:
        """`function` of (what is whole, rows) -> new rows, on every device's own rows."""
        if self._rows_are_whole:
            return function
        specs, own = (PartitionSpec(), PartitionSpec(AXES)), PartitionSpec(AXES)
        split = jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=own)
        return cast(Sums, split)

    def describe(self) -> str:
        """The mesh, and what of parameters and rows is on each device."""
        params = self.state.params
        whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
        text = f"mesh {' x '.join(f'{name}={size}' for name, size in self.mesh.shape.items())}; "
        text += f"parameters {bytes_on_device(params) / 1e6:.3g} of {whole / 1e6:.3g} MB"
        if self.rows:
            own = self.rows[0].sharding.shard_shape(self.rows[0].shape)[0]
            text += f" and {own:,} of {len(self.rows[0]):,} bank rows"
        return f"{text} on each device"


def compile_on_batches(function: Callable[..., Any], mesh: Mesh, layout: Layout | None) -> Any:
    """Jits (params, batch) -> result, the batch split over `mesh`, the result on every device.

    The parameters lie as `layout` says, without one on every device.
    """
    whole = params = replicated(mesh)
    if layout is not None:
        function, params = layout.on_whole_params(function), layout.shardings.params
    return jax.jit(function, in_shardings=(params, batch_sharded(mesh)), out_shardings=whole)


def _at_once(
    arrays: Sequence[jax.Array], move: Callable[[jax.Array], jax.Array]
) -> list[jax.Array]:
    """The arrays [B, ...], no floating ones, as they are after one `move` of all their bytes."""
    if not arrays:
        return []
    parts = [_as_bytes(x) for x in arrays]
    ends = list(itertools.accumulate(part.shape[1] for part in parts))
    moved = jnp.split(move(jnp.concatenate(parts, axis=1)), ends[:-1], axis=1)
    return [_from_bytes(part, x) for part, x in zip(moved, arrays, strict=True)]


def _as_bytes(x: jax.Array) -> jax.Array:
    """[B, ...] without gradient -> uint8 [B, bytes]."""
    flat = x.reshape(len(x), -1)
    if x.dtype == jnp.bool:
        return flat.astype(jnp.uint8)
    return lax.bitcast_convert_type(flat, jnp.uint8).reshape(len(x), -1)


def _from_bytes(data: jax.Array, like: jax.Array) -> jax.Array:
    """The inverse of `_as_bytes`, for an array of `like`'s shape and type."""
    if like.dtype == jnp.bool:
        return data.astype(jnp.bool).reshape(like.shape)
    width = (like.dtype.itemsize,) if like.dtype.itemsize > 1 else ()
    return lax.bitcast_convert_type(data.reshape(*like.shape, *width), like.dtype)


def _resharded(x: jax.Array, there: NamedSharding, back: NamedSharding) -> jax.Array:
    """The array x laid out as `there`; its gradient, which every device has a share of, is summed to `back`.

    (A constraint alone would ask for the gradient to lie like x, whole on every device.)
    """

    def move(x: jax.Array) -> jax.Array:
        return lax.with_sharding_constraint(x, there)

    def forward(x: jax.Array) -> tuple[jax.Array, None]:  # in the open, for `remat` to see it
        return move(x), None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (lax.with_sharding_constraint(gradient, back),)

    moved = jax.custom_vjp(move)
    moved.defvjp(forward, backward)
    return moved(x)


def make_layout(abstract_state: TrainState, row_leaves: Any, mesh: Mesh) -> Layout:
    """The layout of a state, from the shapes of its arrays and `Method.row_leaves`.

    Parameters, what the optimizer keeps of their shapes, and their average are split over "fsdp"
    (see `parameter_spec`). Rows of the method's state are split over all devices, or are on each
    of them where the devices do not divide them; its other arrays are on each device. A ValueError
    for an fsdp axis that no parameter can be split over.
    """
    fsdp = mesh.shape[FSDP]
    _check_divisible(abstract_state.params, mesh)

    def by_shape(leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, parameter_spec(leaf.shape, fsdp))

    def by_row(leaf: Any, is_row: bool) -> NamedSharding:
        splits = is_row and len(leaf) % mesh.size == 0
        return batch_sharded(mesh) if splits else replicated(mesh)

    shardings = jax.tree.map(by_shape, dataclasses.replace(abstract_state, method=None))
    method = jax.tree.map(by_row, abstract_state.method, row_leaves)
    shardings = dataclasses.replace(shardings, method=method)
    state = jax.tree.map(_with_sharding, abstract_state, shardings)
    flags = jax.tree.leaves(row_leaves)
    leaves = zip(jax.tree.leaves(state.method), flags, strict=True)
    return Layout(mesh, state, tuple(leaf for leaf, is_row in leaves if is_row))


def _with_sharding(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def parameter_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """How an array of `shape` is split over the axis "fsdp" of `fsdp` devices.

    By its longest axis among those that `fsdp` divides, the first of equals; not at all where there
    is none, for vectors, and for arrays of fewer than `SMALLEST_SHARDED` elements.
    """
    divisible = [axis for axis, length in enumerate(shape) if length % fsdp == 0]
    if fsdp == 1 or len(shape) < 2 or math.prod(shape) < SMALLEST_SHARDED or not divisible:
        return PartitionSpec()
    chosen = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*(None,) * chosen, FSDP)


def _check_divisible(params: Any, mesh: Mesh) -> None:
    fsdp, count = mesh.shape[FSDP], mesh.size
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    if fsdp == 1 or any(parameter_spec(shape, fsdp) for shape in shapes):
        return
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    fits = [n for n in divisors if n == 1 or any(parameter_spec(shape, n) for shape in shapes)]
    raise ValueError(
        f"mesh.fsdp={fsdp} divides no axis of any parameter of {SMALLEST_SHARDED:,} elements or "
        f"more, so nothing would be split; accepted on {count} devices, with mesh.data unset: "
        + ", ".join(map(str, fits))
    )


def bytes_on_device(tree: Any) -> int:
    """What arrays, or shapes with shardings, take on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
