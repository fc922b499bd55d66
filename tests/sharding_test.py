"""The mesh, and batches that the devices can or cannot divide."""

import jax
import numpy as np
import pytest

from hybridhash_jax import sharding


def test_the_mesh_covers_all_devices_or_the_first_few():
    assert sharding.make_mesh().size == jax.device_count() == 8
    assert list(sharding.make_mesh(3).devices) == jax.devices()[:3]


@pytest.mark.parametrize("count", [0, 9])
def test_an_impossible_number_of_devices_is_refused(count):
    with pytest.raises(ValueError, match="8 devices"):
        sharding.make_mesh(count)


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
