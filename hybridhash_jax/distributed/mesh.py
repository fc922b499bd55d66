"""The device mesh, and how batches lie on it."""

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from input_pipeline.options import Option

Tree = TypeVar("Tree")

DATA, FSDP = "data", "fsdp"
AXES = (DATA, FSDP)
OPTIONS = (
    Option("data", "copies of the parameters", at_least=1, may_change=True),
    Option("fsdp", "devices that share one copy of the parameters", at_least=1, may_change=True),
)


def make_mesh(
    num_devices: int | None = None,
    data: int | None = None,
    fsdp: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """A mesh of two axes over `devices`, None for all of this run, or the first `num_devices`.

    A batch is split over both axes; parameters are split over "fsdp" alone, so that "data" counts
    their copies. `data` of None is all that `fsdp` leaves; `fsdp` of 1 is plain data parallelism.

    Raises:
      ValueError: more devices are asked for than there are, or fewer than the processes own, or
        the axes do not cover them; the message says what would.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices) if num_devices is None else num_devices
    if not 1 <= count <= len(devices):
        raise ValueError(f"num_devices={count}, but this machine shows {len(devices)} devices")
    if jax.process_count() > 1 and count != len(devices):
        raise ValueError(
            f"num_devices={count} with {jax.process_count()} processes: leave it unset, so that "
            f"all {len(devices)} devices take part"
        )
    copies = max(count // fsdp, 1) if data is None else data
    if copies * fsdp != count:
        given = [f"mesh.data={data}"] * (data is not None) + [f"mesh.fsdp={fsdp}"] * (fsdp != 1)
        raise ValueError(
            f"{', '.join(given)} cannot cover the {count} devices in use; accepted "
            f"(data x fsdp, or mesh.data unset): {_factorizations(count)}"
        )
    ordered = arrange(devices[:count], copies, fsdp)
    return Mesh(ordered, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _factorizations(count: int) -> str:
    return ", ".join(f"{count // n} x {n}" for n in range(1, count + 1) if count % n == 0)


def arrange(devices: Sequence[Any], data: int, fsdp: int) -> np.ndarray:
    """The devices as [data, fsdp], neighbours on fsdp close to each other.

    Where they are of several slices, an fsdp axis lies inside one if it fits. Read row by row, those
    of process 0 come first, then those of process 1, for the loader cuts its batches that way; an
    order that follows the topology is given up where it would not.
    """
    sizes = collections.Counter(getattr(device, "slice_index", 0) for device in devices)
    slices, size = len(sizes), len(devices) // len(sizes)
    by_process = sorted(devices, key=lambda device: (device.process_index, device.id))
    ordered = np.empty(len(devices), object)
    ordered[:] = by_process
    ordered = ordered.reshape(data, fsdp)
    inner, outer = (size // fsdp, fsdp), (slices, 1)
    split = {"allow_split_physical_axes": True}  # else 4 of 16 x 16 chips would be refused
    try:
        if slices == 1:
            close = mesh_utils.create_device_mesh((data, fsdp), devices, **split)
        elif max(sizes.values()) == size and size % fsdp == 0:
            close = mesh_utils.create_hybrid_device_mesh(inner, outer, devices, **split)
        else:
            return ordered
    except AssertionError:  # a part of a TPU's chips may have holes, which have no topology
        return ordered
    processes = [device.process_index for device in close.flat]
    return close if processes == sorted(processes) else ordered


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
    """The first axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot divide, naming the nearest that they can."""
    count = mesh.size
    if batch_size < 1 or batch_size % count:
        below = max(batch_size // count, 1) * count
        raise ValueError(
            f"{name}={batch_size} cannot be split over {count} devices; "
            f"use a multiple of {count}, for example {below} or {below + count}"
        )


def of_first_process(tree: Tree) -> Tree:
    """NumPy arrays as process 0 has them: what each computes itself differs with its processor."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's slice of a global batch, as global arrays split over the devices."""
    sharding = batch_sharded(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
        for name, array in batch.items()
    }
