"""The counts and the stable order of a ranking on accelerators, by XLA.

Distances are an int8 matrix product with int32 sums, (K - a.b) / 2, and shared labels another. The
histogram compares the block of pairs with one pair of distance and grade after the other and sums,
since XLA's scatter takes turns at a counter. The stable order is a sort of one int32 a pair.
Queries are split over the devices of this process and go through each in blocks, so that a device
holds less than 1 GiB whatever the database.

Not measured on an accelerator: none was at hand. What is tested is that counts are those of the
host on CPU devices, and that the programs lower for CUDA and TPU. On a CPU the host's loops are
far faster, since a pair is compared (K + 1) G times here.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Wrapped

from hybridhash_jax.metrics.arguments import PackedItems

_QUERIES = "queries"  # the mesh's only axis
_BYTES_A_DEVICE = 1 << 29
_BYTES_A_PAIR = 32  # what a sort of int32 and the sums behind it keep at a time
_LARGEST_KEY = 2**31 - 1
# Precisions are summed as integers, hence the same in any order: 24 bits each, as float32 has, in
# two halves whose sums over this many places stay below 2^31.
_UNIT_BITS, _HALF_BITS, _PLACES_A_SUM = 24, 12, 1 << 18

Sides = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def count_by_grade(
    queries: PackedItems, database: PackedItems, by_class: bool, bits: int, grades: int
) -> np.ndarray:
    """Counts as `pair_loops.count_by_grade`, on all devices of this process.

    Args:
        queries, database, by_class, bits: from `arguments.pack_sides`.
        grades: G of the result, `arguments.grades`.

    Returns:
        int32 [Q, K + 1, G].
    """
    mesh = _mesh()
    rows = _rows_a_block(len(queries), len(database), mesh.size)
    program = counting_program(mesh, rows, bits, grades)
    counts = _run(program, mesh, rows, _sides(queries, database, by_class))
    return counts[: len(queries)].reshape(len(queries), bits + 1, grades)


def stable_precisions(
    queries: PackedItems, database: PackedItems, by_class: bool, bits: int, places: int
) -> np.ndarray:
    """AP@places with ties in the order of database rows, float64 [Q], within 1e-6 of the host's.

    Raises:
        ValueError: distance, row and relevance do not fit an int32, as for 64 bits and more than
            16.5 million items.
    """
    if 2 * (bits + 1) * len(database) - 1 > _LARGEST_KEY:
        raise ValueError(
            f"the stable order of {len(database):,} items by codes of {bits} bits needs sort keys "
            f"above the {_LARGEST_KEY:,} of an int32; at most {_most_items(bits):,} items can be "
            'sorted on a device. Use metrics.rank(..., on="host"), which sorts nothing.'
        )
    mesh = _mesh()
    rows = _rows_a_block(len(queries), len(database), mesh.size)
    program = stable_program(mesh, rows, places)
    sums, found = _run(program, mesh, rows, _sides(queries, database, by_class))
    high, low = np.moveaxis(sums[: len(queries)].sum(axis=1, dtype=np.int64), 1, 0)
    total = ((high << _HALF_BITS) + low) / (1 << _UNIT_BITS)
    return total / np.maximum(found[: len(queries)], 1)


@functools.lru_cache(maxsize=16)
def counting_program(mesh: Mesh, rows: int, bits: int, grades: int) -> Wrapped:
    """Jitted function of (query codes, labels, database codes, labels) to int32 [Q, (K + 1) G].

    Codes are int8 [N, P] of -1 and +1, where padding is the same on both sides; labels class ids
    int32 [N], or multi-hot int8 [N, classes]. Q is a multiple of devices x `rows`.
    """
    kinds = (bits + 1) * grades
    narrowest = jnp.int16 if kinds <= np.iinfo(np.int16).max else jnp.int32

    def count(codes: jax.Array, labels: jax.Array, *database: jax.Array) -> jax.Array:
        distance, shared = _compare(codes, labels, *database)
        kind = (distance * grades + shared).astype(narrowest)
        counts = jax.lax.map(
            lambda this: jnp.sum(kind == this, axis=1, dtype=jnp.int32),
            jnp.arange(kinds, dtype=narrowest),
        )
        return counts.T

    return _over_blocks(count, mesh, rows)


@functools.lru_cache(maxsize=16)
def stable_program(mesh: Mesh, rows: int, places: int) -> Wrapped:
    """Jitted function of the same to sums of precisions, int32 [Q, S, 2], and finds, int32 [Q].

    The sums are in units of 2^-24, as upper and lower halves; S of them make up a query's.
    """
    sums = -(-places // _PLACES_A_SUM)

    def precisions(
        codes: jax.Array, labels: jax.Array, *database: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        distance, shared = _compare(codes, labels, *database)
        size = distance.shape[1]
        key = 2 * (distance * size + jnp.arange(size, dtype=jnp.int32)[None])
        key = jax.lax.sort(key + (shared > 0), dimension=1, is_stable=False)
        relevant = key[:, :places] & 1
        found = jnp.cumsum(relevant, axis=1, dtype=jnp.int32)
        place = jnp.arange(1, places + 1, dtype=jnp.float32)[None]
        precision = found.astype(jnp.float32) / place
        units = jnp.round(precision * (1 << _UNIT_BITS)).astype(jnp.int32) * relevant
        units = jnp.pad(units, ((0, 0), (0, sums * _PLACES_A_SUM - places)) if sums > 1 else 0)
        halves = jnp.stack([units >> _HALF_BITS, units & ((1 << _HALF_BITS) - 1)], axis=2)
        in_parts = halves.reshape(len(units), sums, -1, 2)
        return in_parts.sum(axis=2, dtype=jnp.int32), found[:, -1]

    return _over_blocks(precisions, mesh, rows)


def _compare(
    codes: jax.Array, labels: jax.Array, database_codes: jax.Array, database_labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Distances and numbers of shared labels, int32 [rows, M]."""
    distance = (codes.shape[1] - _products(codes, database_codes)) // 2
    if labels.ndim == 1:
        return distance, (labels[:, None] == database_labels[None]).astype(jnp.int32)
    return distance, _products(labels, database_labels)


def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum("qk,mk->qm", left, right, preferred_element_type=jnp.int32)


def _over_blocks(of_block: Callable[..., Any], mesh: Mesh, rows: int) -> Wrapped:
    """Runs `of_block` over blocks of `rows` queries on each device of the mesh."""

    def of_device(codes: jax.Array, labels: jax.Array, *database: jax.Array) -> Any:
        blocks = [x.reshape(-1, rows, *x.shape[1:]) for x in (codes, labels)]
        result = jax.lax.map(lambda block: of_block(*block, *database), blocks)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), result)

    return jax.jit(
        jax.shard_map(
            of_device,
            mesh=mesh,
            in_specs=(P(_QUERIES), P(_QUERIES), P(), P()),
            out_specs=P(_QUERIES),
        )
    )


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), (_QUERIES,))


def _rows_a_block(queries: int, size: int, devices: int) -> int:
    """Queries that a device compares at a time: what memory allows, evenly."""
    of_device = -(-queries // devices)
    most = max(_BYTES_A_DEVICE // (_BYTES_A_PAIR * size), 1)
    blocks = -(-of_device // most)
    return -(-of_device // blocks)


def _run(program: Wrapped, mesh: Mesh, rows: int, sides: Sides) -> Any:
    """Runs a program of queries padded to whole blocks; NumPy arrays, padding included."""
    padding = -len(sides[0]) % (rows * mesh.size)
    padded = [np.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)) for x in sides[:2]]
    split, whole = NamedSharding(mesh, P(_QUERIES)), NamedSharding(mesh, P())
    arrays = [jax.device_put(x, split) for x in padded]
    arrays += [jax.device_put(x, whole) for x in sides[2:]]
    return jax.device_get(program(*arrays))


def _sides(queries: PackedItems, database: PackedItems, by_class: bool) -> Sides:
    """Codes and labels of both, as the programs take them."""
    left, right = (_bits(side.words) * np.int8(2) - np.int8(1) for side in (queries, database))
    if not by_class:
        return left, _bits(queries.labels), right, _bits(database.labels)
    ids = np.concatenate([queries.labels[0], database.labels[0]])
    ids = np.unique(ids, return_inverse=True)[1].astype(np.int32)
    return left, ids[: len(queries)], right, ids[len(queries) :]


def _bits(words: np.ndarray) -> np.ndarray:
    """int8 [N, 64 W] of 0 and 1; unused bits are 0, and so alike on both sides."""
    return np.unpackbits(np.ascontiguousarray(words.T).view(np.uint8), axis=1).view(np.int8)


def _most_items(bits: int) -> int:
    return (_LARGEST_KEY + 1) // (2 * (bits + 1))
