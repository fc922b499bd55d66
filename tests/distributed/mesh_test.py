"""The mesh, how devices are ordered on it, and batches that the devices can or cannot divide."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding


def test_the_mesh_covers_all_devices_or_the_first_few():
    assert sharding.make_mesh().size == jax.device_count() == 8
    assert list(sharding.make_mesh(3).devices.flat) == jax.devices()[:3]


def test_a_mesh_may_be_of_devices_that_are_given():
    given = jax.devices()[2:6]
    mesh = sharding.make_mesh(fsdp=2, devices=given)
    assert mesh.shape == {"data": 2, "fsdp": 2}
    assert set(mesh.devices.flat) == set(given)


@pytest.mark.parametrize("count", [0, 9])
def test_an_impossible_number_of_devices_is_refused(count):
    with pytest.raises(ValueError, match="8 devices"):
        sharding.make_mesh(count)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({}, (8, 1)),
        ({"fsdp": 8}, (1, 8)),
        ({"fsdp": 2}, (4, 2)),
        ({"data": 2, "fsdp": 4}, (2, 4)),
        ({"num_devices": 6, "fsdp": 3}, (2, 3)),
    ],
)
def test_data_takes_the_devices_that_fsdp_leaves(given, shape):
    mesh = sharding.make_mesh(**given)
    assert (mesh.shape["data"], mesh.shape["fsdp"]) == shape
    assert list(mesh.devices.flat) == jax.devices()[: mesh.size]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"fsdp": 3}, "mesh.fsdp=3"),
        ({"data": 3, "fsdp": 2}, "mesh.data=3, mesh.fsdp=2"),
        ({"data": 4}, "mesh.data=4"),
        ({"fsdp": 16}, "mesh.fsdp=16"),
    ],
)
def test_a_mesh_that_does_not_cover_the_devices_is_refused_with_those_that_do(given, named):
    accepted = r"the 8 devices.*accepted .*8 x 1, 4 x 2, 2 x 4, 1 x 8"
    with pytest.raises(ValueError, match=f"^{named} cannot cover {accepted}"):
        sharding.make_mesh(**given)


@dataclasses.dataclass(frozen=True)
class Device:
    """What `arrange` looks at."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "cpu"
    device_kind: str = "cpu"
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0


def pod(slices: int, processes: int, of_each: int = 2) -> list[Device]:
    """Devices of several slices, of several processes each."""
    count = slices * processes * of_each
    return [Device(n, n // of_each, n // (processes * of_each)) for n in range(count)]


def test_an_fsdp_axis_lies_inside_a_slice():
    arranged = sharding.arrange(pod(slices=2, processes=2), data=4, fsdp=2)
    assert [{device.slice_index for device in row} for row in arranged] == [{0}, {0}, {1}, {1}]
    # Eight do not fit into a slice of four.
    assert sharding.arrange(pod(slices=2, processes=2), data=1, fsdp=8).shape == (1, 8)


def tpu(kind: str, width: int, height: int, depth: int = 1, slices: int = 1) -> list[Device]:
    """Chips of TPU slices, whose hosts have 2 x 2 each."""
    size = width * height * depth
    cube = itertools.product(range(depth), range(0, height, 2), range(0, width, 2), *[(0, 1)] * 2)
    coords = [(x + right, y + up, z) for z, y, x, up, right in cube]
    return [
        Device(n, n // 4, n // size, "tpu", kind, coords[n % size]) for n in range(slices * size)
    ]


@pytest.mark.parametrize(
    "chips",
    [
        *(tpu(kind, 2, 2) for kind in ("TPU v4", "TPU v5 lite", "TPU v6 lite")),
        *(tpu("TPU v5 lite", *shape) for shape in ((2, 4), (4, 8), (8, 8), (8, 16), (16, 16))),
        *(tpu("TPU v6 lite", *shape, slices=2) for shape in ((4, 4), (8, 8))),
        *(tpu("TPU v5p", *shape) for shape in ((2, 2, 4), (4, 4, 4), (4, 4, 12))),
    ],
    ids=lambda chips: f"{len(chips)} {chips[0].device_kind}",
)
def test_every_way_to_divide_a_tpu_gives_a_mesh(chips):
    count = len(chips)
    for fsdp in (n for n in range(1, count + 1) if count % n == 0):
        arranged = sharding.arrange(chips, count // fsdp, fsdp)
        assert arranged.shape == (count // fsdp, fsdp)
        assert {device.id for device in arranged.flat} == set(range(count))
        order = [device.process_index for device in arranged.flat]
        assert order == sorted(order)


@pytest.mark.parametrize("count", [1, 3, 7, 8])
def test_a_part_of_a_tpu_may_have_holes(count):
    chips: Any = tpu("TPU v5 lite", 2, 4)
    mesh = sharding.make_mesh(count, devices=chips)
    assert {device.id for device in mesh.devices.flat} == set(range(count))


@pytest.mark.parametrize(("slices", "processes"), [(1, 4), (2, 2)])
@pytest.mark.parametrize("fsdp", [1, 2, 4, 8])
def test_every_process_has_a_piece_of_the_batch_in_the_order_of_processes(slices, processes, fsdp):
    devices = pod(slices, processes)
    shuffled = [devices[i] for i in (0, 1, 2, 3, 6, 7, 4, 5)]  # a ring through the topology
    arranged = sharding.arrange(shuffled, 8 // fsdp, fsdp)
    assert sorted(device.id for device in arranged.flat) == list(range(8))
    order = [device.process_index for device in arranged.flat]
    assert order == sorted(order)


def test_a_batch_is_split_over_the_devices_in_order():
    mesh = sharding.make_mesh()
    batch = {"index": np.arange(16)}
    placed = sharding.put_batch(batch, mesh)["index"]
    np.testing.assert_array_equal(placed, batch["index"])
    shard = next(s for s in placed.addressable_shards if s.device == jax.devices()[3])
    np.testing.assert_array_equal(shard.data, [6, 7])


@pytest.mark.parametrize(("size", "nearest"), [(12, "8 or 16"), (3, "8 or 16"), (100, "96 or 104")])
def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do(size, nearest):
    with pytest.raises(ValueError, match=nearest):
        sharding.check_batch_size("batch_size", size, sharding.make_mesh())
