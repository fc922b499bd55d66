"""The device mesh, and how arrays lie on it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")


def make_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of one axis, "data", over all devices or the first `num_devices`.

    Raises:
      ValueError: more devices are asked for than there are, or fewer than the processes own.
    """
    devices = jax.devices()
    count = len(devices) if num_devices is None else num_devices
    if not 1 <= count <= len(devices):
        raise ValueError(f"num_devices={count}, but this machine shows {len(devices)} devices")
    if jax.process_count() > 1 and count != len(devices):
        raise ValueError(
            f"num_devices={count} with {jax.process_count()} processes: leave it unset, so that "
            f"all {len(devices)} devices take part"
        )
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """A copy on every device of every process, of what is the same in all of them."""
    return _copier(mesh)(tree)


@functools.lru_cache  # a new function would be traced again at every call
def _copier(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot divide, naming the nearest that they can."""
    count = mesh.size
    if batch_size < 1 or batch_size % count:
        below = max(batch_size // count, 1) * count
        raise ValueError(
            f"{name}={batch_size} cannot be split over {count} devices; "
            f"use a multiple of {count}, for example {below} or {below + count}"
        )


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's slice of a global batch, as global arrays split over the devices."""
    sharding = batch_sharded(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
        for name, array in batch.items()
    }
