"""Rankings on devices are those on the host, and their programs lower for accelerators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from hybridhash_jax import metrics
from hybridhash_jax.metrics import device_counts


def sides(queries: int, size: int, bits: int, classes: int, several: bool) -> tuple:
    rng = np.random.default_rng(size + bits)

    def side(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.eye(classes, dtype=int)[rng.integers(0, classes, count)]
        if several:
            labels |= rng.random((count, classes)) < 0.2
        return rng.integers(0, 2, (count, bits)) * 2 - 1, labels

    return *side(queries), *side(size)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("queries", "size", "bits", "classes"),
    [(1, 1, 1, 2), (3, 40, 12, 5), (17, 301, 64, 70), (9, 130, 130, 5)],
)
def test_a_device_counts_and_orders_as_the_host(queries, size, bits, classes, several):
    arrays = sides(queries, size, bits, classes, several)
    host, device = metrics.rank(*arrays), metrics.rank(*arrays, on="device")
    np.testing.assert_array_equal(device.by_grade, host.by_grade)
    assert device.by_grade.dtype == host.by_grade.dtype
    for top_k in (1, size // 2 or 1, None):
        expected = metrics.ranked_precisions(host, top_k, "stable")
        got = metrics.ranked_precisions(device, top_k, "stable")
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_blocks_of_queries_and_sums_in_parts_change_nothing(monkeypatch):
    arrays = sides(50, 700, 10, 4, True)
    host = metrics.rank(*arrays)
    expected = metrics.ranked_precisions(host, 650, "stable")
    # Two queries a block, and seven parts of 100 places.
    monkeypatch.setattr(device_counts, "_BYTES_A_DEVICE", 2 * 700 * device_counts._BYTES_A_PAIR)
    monkeypatch.setattr(device_counts, "_PLACES_A_SUM", 100)
    device_counts.stable_program.cache_clear()
    device = metrics.rank(*arrays, on="device")
    np.testing.assert_array_equal(device.by_grade, host.by_grade)
    got = metrics.ranked_precisions(device, 650, "stable")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    device_counts.stable_program.cache_clear()


def test_long_rankings_keep_six_digits():
    # All relevant but the first: precisions near 1, where sums of float32 would lose most.
    size = 200_000
    labels = np.ones(size, int)
    labels[0] = 0
    arrays = (np.ones((1, 3)), [1], np.ones((size, 3)), labels)
    host, device = metrics.rank(*arrays), metrics.rank(*arrays, on="device")
    expected, got = (metrics.ranked_precisions(r, None, "stable") for r in (host, device))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7)


def test_a_block_holds_less_than_a_gibibyte_whatever_the_database():
    for size in (1, 1000, 193_734, 10_000_000):
        rows = device_counts._rows_a_block(5000, size, 1)
        assert rows >= 1
        assert rows * size * device_counts._BYTES_A_PAIR < 1 << 30


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("several", [False, True])
def test_programs_lower_for_accelerators(platform, several):
    queries, size, rows = 1024, 193_734, 64
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("queries",))

    def labels(count: int) -> jax.ShapeDtypeStruct:
        shape = (count, 64) if several else (count,)
        return jax.ShapeDtypeStruct(shape, jnp.int8 if several else jnp.int32)

    arguments = (
        jax.ShapeDtypeStruct((queries, 64), jnp.int8), labels(queries),
        jax.ShapeDtypeStruct((size, 64), jnp.int8), labels(size),
    )  # fmt: skip
    counting = device_counts.counting_program(mesh, rows, 64, 5)
    exported = export.export(counting, platforms=(platform,))(*arguments)
    assert exported.out_avals[0].shape == (queries, 65 * 5)
    stable = device_counts.stable_program(mesh, rows, 5000)
    exported = export.export(stable, platforms=(platform,))(*arguments)
    assert [x.shape for x in exported.out_avals] == [(queries, 1, 2), (queries,)]
    for text in (counting.lower(*arguments).as_text(), stable.lower(*arguments).as_text()):
        assert "scatter" not in text and "f64" not in text


def test_rankings_that_an_int32_cannot_sort_are_refused_with_the_way_out():
    bits, size = 64, 2**30 // 65 + 1
    one = metrics.rank(np.ones((1, bits)), [0], np.ones((1, bits)), [0]).queries
    words = np.broadcast_to(one.words, (1, size))
    many = type(one)(words, words)
    with pytest.raises(ValueError, match=r'16,519,105 items .*\n?.*on="host"'):
        device_counts.stable_precisions(one, many, True, bits, 10)


def test_places_other_than_host_and_device_are_refused():
    with pytest.raises(ValueError, match='on must be "host" or "device"; got \'gpu\''):
        metrics.rank([[1]], [0], [[1]], [0], on="gpu")  # type: ignore[arg-type]
