"""Search over 8 virtual devices equals the host's, ties included, and lowers for accelerators."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from hybridhash_jax.distributed.mesh import make_mesh
from hybridhash_jax.retrieval.engine import devices, nearest_batch
from tests.retrieval.engine.reference import assert_same, codes_of

PLATFORMS = ("cpu", "cuda", "tpu")


@settings(max_examples=15)
@given(
    st.sampled_from([1, 57, 3_000]),
    st.sampled_from([1, 2]),
    st.sampled_from([2, 8, 64]),
    st.sampled_from([1, 5, 1_000]),
    st.sampled_from([None, 0, 3]),
    st.sampled_from([None, 0.0, 0.02, 0.5]),
    st.integers(0, 2**32),
)  # fmt: skip
def test_it_equals_the_host_with_its_ties(rows, words, varying, k, radius, share, seed):
    codes = codes_of(seed, rows + 5, words, varying)
    codes, queries = codes[:rows], codes[rows:]
    mask = None if share is None else np.random.default_rng(seed).random(rows) < share
    parts = np.split(codes, [rows // 3])
    sharded = devices.shard(parts, make_mesh(), mask, chunk=100)
    found = sharded.nearest(queries, k, radius, batch_size=4)
    for one, expected in zip(found, nearest_batch(parts, queries, k, radius, mask), strict=True):
        assert_same(one, expected)


def test_ties_between_groups_of_rows_are_cut_by_row():
    # 47 at distance 0, of which many share a group with some of the 281 at distance 1.
    codes = codes_of(5, 3_000, 1, 6)
    found = devices.shard([codes], make_mesh(1)).nearest(codes[:8], 100)
    for one, expected in zip(found, nearest_batch([codes], codes[:8], 100), strict=True):
        assert_same(one, expected)


def test_rows_lie_on_all_devices_of_any_mesh_and_missing_segments_stay_unused():
    codes = codes_of(1, 3_000, 1, 9)
    parts, first_rows = [codes[:1_000], codes[1_500:]], [0, 1_500]
    for mesh in (make_mesh(fsdp=4), make_mesh(3)):
        sharded = devices.shard(parts, mesh, None, first_rows, chunk=64)
        assert len(sharded.codes.addressable_shards) == mesh.size
        assert sharded.codes.addressable_shards[0].data.shape[0] == len(sharded.codes) // mesh.size
        found = sharded.nearest(codes[:3], 50)
        for one, expected in zip(
            found, nearest_batch(parts, codes[:3], 50, first_rows=first_rows), strict=True
        ):
            assert_same(one, expected)


def shape(dtype, *sizes):
    return jax.ShapeDtypeStruct(sizes, dtype)


def test_a_hundred_million_codes_lower_for_every_platform_within_bounded_memory():
    mesh, chunk, batch = make_mesh(), 1 << 18, 256
    rows = 48 * 8 * chunk
    search: Any = devices.make_search(mesh, chunk, 100)
    split = devices.row_sharded(mesh)
    arguments = (
        jax.ShapeDtypeStruct((rows, 2), jnp.uint32, sharding=split),
        jax.ShapeDtypeStruct((rows,), jnp.bool, sharding=split),
        shape(jnp.uint32, batch, 2),
        shape(jnp.int32),
    )
    exported = export.export(search, platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 8
    assert [x.shape for x in exported.out_avals] == [(batch, 100), (batch, 100), (batch,)]
    memory = search.lower(*arguments).compile().memory_analysis()
    # On each device, whose codes are 113 MB. All distances of a batch would be 13 GB.
    assert memory.temp_size_in_bytes < 350e6


def test_what_does_not_fit_is_refused():
    codes = codes_of(0, 20, 1, 9)
    sharded = devices.shard([codes], make_mesh())
    with pytest.raises(ValueError, match="codes have 1 words, queries 2"):
        sharded.nearest(codes_of(0, 2, 2, 9), 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        sharded.nearest(codes, 0)
    with pytest.raises(ValueError, match="no codes to search"):
        devices.shard([], make_mesh())
