"""The nearest codes on accelerators: rows split over all devices, the k best of each merged.

A distance is XOR and a count of bits, not an int8 product: on accelerators XLA fuses it with the
minimum over a group of rows, so that one number a group is written. A product writes a distance a
pair, which takes longer than computing it, and its codes take 8 times the memory.

The k nearest rows lie in the k groups whose nearest row is nearest (of equal ones, the first groups).
Only these groups' rows are sorted.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hybridhash_jax.retrieval.engine.exact import Mask, Nearest, Words, check_arguments

_FAR = 1 << 20  # farther than any code: the distance of rows left out
_MOST_ROWS = (1 << 31) - 1  # row numbers are int32 on devices


@dataclasses.dataclass(frozen=True)
class ShardedCodes:
    """Codes on the devices of a mesh, in the order of rows.

    Attributes:
      codes: uint32 [devices x rows, 2 W]; each device holds one slice.
      wanted: bool [devices x rows]; False for rows left out and for those that fill up.
      words: uint64 words a code.
      num_wanted: how many rows are searched.
      chunk: rows of a device that are compared at a time.
      mesh: rows are split over all its axes.
    """

    codes: jax.Array
    wanted: jax.Array
    words: int
    num_wanted: int
    chunk: int
    mesh: Mesh

    def nearest(
        self, queries: Words, k: int, radius: int | None = None, batch_size: int = 256
    ) -> list[Nearest]:
        """Does `exact.nearest_batch` on the devices, `batch_size` queries at a time.

        Memory beside the codes is of the order of `batch_size` x `chunk` distances a device,
        however many codes and queries there are.
        """
        check_arguments([], queries, k, radius, None, None)
        if queries.shape[1] != self.words:
            raise ValueError(f"codes have {self.words} words, queries {queries.shape[1]}")
        kept = min(k, self.num_wanted)
        if not kept:
            none = np.empty(0, np.int64)
            return [Nearest(none, none, 0) for _ in queries]
        search = make_search(self.mesh, self.chunk, kept)
        found = []
        for start in range(0, len(queries), batch_size):
            part = queries[start : start + batch_size]
            filled = np.zeros((batch_size, 2 * self.words), np.uint32)
            filled[: len(part)] = _halves(part)
            limit = np.int32(_FAR - 1 if radius is None else min(radius, _FAR - 1))
            results = [np.asarray(x) for x in search(self.codes, self.wanted, filled, limit)]
            found += [_on_host(*(x[row] for x in results)) for row in range(len(part))]
        return found


def shard(
    codes: Sequence[Words],
    mesh: Mesh,
    mask: Mask | None = None,
    first_rows: Sequence[int] | None = None,
    chunk: int = 1 << 18,
) -> ShardedCodes:
    """Splits codes over the devices of a mesh; each device's part is read on its own.

    Args:
      codes: arrays uint64 [n, W], at least one, as for `exact.nearest`.
      mesh: of any axes; rows are split over all of them.
      mask: bool by row number; False leaves a row out.
      first_rows: as for `exact.nearest`.
      chunk: rows of a device that are compared at a time.
    """
    if not codes:
        raise ValueError("there are no codes to search")
    starts = check_arguments(codes, codes[0][:0], 1, None, mask, first_rows)
    rows, words = starts[-1] + len(codes[-1]), codes[0].shape[1]
    share = max(-(-rows // mesh.size), 1)
    chunk = min(chunk, share)
    share = -(-share // chunk) * chunk
    if share * mesh.size > _MOST_ROWS:
        raise ValueError(f"{rows} rows are more than {_MOST_ROWS}: search them in parts")
    total = share * mesh.size
    wanted = np.zeros(total, np.bool_)
    for start, array in zip(starts, codes, strict=True):
        part = slice(start, start + len(array))
        wanted[part] = True if mask is None else mask[part]

    def codes_of(part: Any) -> np.ndarray:
        return _halves(_rows_between(codes, starts, *part[0].indices(total)[:2]))

    split = row_sharded(mesh)
    on_devices = jax.make_array_from_callback((total, 2 * words), split, codes_of)
    wanted_there = jax.make_array_from_callback((total,), split, lambda part: wanted[part])
    return ShardedCodes(on_devices, wanted_there, words, int(wanted.sum()), chunk, mesh)


def row_sharded(mesh: Mesh) -> NamedSharding:
    """The first axis split over all axes of the mesh."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


@functools.lru_cache
def make_search(mesh: Mesh, chunk: int, k: int) -> Callable[..., Any]:
    """Compiles the search of sharded codes for the k nearest within a limit.

    It takes codes uint32 [rows, 2 W], wanted bool [rows], queries uint32 [Q, 2 W] and the largest
    distance, and returns rows [Q, k], distances [Q, k], `_FAR` or more where there are fewer, and
    how many lie at the last distance [Q]. A device's rows are a multiple of `chunk`.
    """
    rows_spec, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()

    def on_one_device(codes: Any, wanted: Any, queries: Any) -> Any:
        first = lax.axis_index(mesh.axis_names) * codes.shape[0]
        distances, rows = _nearest_of_shard(codes, wanted, queries, chunk, k)
        return distances[None], (rows + first)[None]

    def count_on_one_device(codes: Any, wanted: Any, queries: Any, last: Any) -> Any:
        return lax.psum(_count_at(codes, wanted, queries, last, chunk), mesh.axis_names)

    shards = jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(rows_spec, rows_spec, everywhere),
        out_specs=(rows_spec, rows_spec),
        check_vma=False,
    )
    counts = jax.shard_map(
        count_on_one_device,
        mesh=mesh,
        in_specs=(rows_spec, rows_spec, everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )

    def search(codes: Any, wanted: Any, queries: Any, limit: Any) -> Any:
        distances, rows = (jnp.concatenate([*x], axis=1) for x in shards(codes, wanted, queries))
        distances, rows = _best(distances, rows, k)
        distances = jnp.where(distances <= limit, distances, _FAR)
        is_found = distances < _FAR
        last = jnp.max(jnp.where(is_found, distances, -1), axis=1)  # -1: nothing is found
        return rows, distances, counts(codes, wanted, queries, last)

    replicated = NamedSharding(mesh, everywhere)
    return jax.jit(search, out_shardings=replicated)


def _nearest_of_shard(codes: Any, wanted: Any, queries: Any, chunk: int, k: int) -> Any:
    """The k nearest rows of a device, by distance, then row: distances and rows [Q, k]."""
    size = _group_size(chunk, k)

    def look_at(best: Any, part: Any) -> tuple[Any, None]:
        start, codes, wanted = part
        distances, rows = _nearest_of_chunk(codes, wanted, queries, size, min(k, chunk))
        # What was found before has lower rows, and comes first among equals.
        distances = jnp.append(best[0], distances, axis=1)
        return _best(distances, jnp.append(best[1], rows + start, axis=1), k), None

    none = jnp.full((len(queries), k), _FAR, jnp.int32), jnp.zeros((len(queries), k), jnp.int32)
    starts = jnp.arange(0, len(codes), chunk, dtype=jnp.int32)
    parts = starts, codes.reshape(-1, chunk, codes.shape[1]), wanted.reshape(-1, chunk)
    return lax.scan(look_at, none, parts)[0]


def _nearest_of_chunk(codes: Any, wanted: Any, queries: Any, size: int, k: int) -> Any:
    filling = -len(codes) % size
    codes = jnp.pad(codes, ((0, filling), (0, 0))).reshape(-1, size, codes.shape[1])
    wanted = jnp.pad(wanted, (0, filling)).reshape(-1, size)
    nearest = _distances(codes[None], wanted[None], queries[:, None, None]).min(axis=2)
    _, groups = lax.top_k(-nearest, min(k, len(codes)))  # [Q, groups]; the first among equals
    groups = jnp.sort(groups, axis=1)
    distances = _distances(codes[groups], wanted[groups], queries[:, None, None])
    rows = size * groups[:, :, None] + jnp.arange(size, dtype=jnp.int32)[None, None]
    return _best(distances.reshape(len(queries), -1), rows.reshape(len(queries), -1), k)


def _count_at(codes: Any, wanted: Any, queries: Any, last: Any, chunk: int) -> Any:
    """How many rows of a device lie at a distance that each query has of its own, [Q]."""

    def look_at(count: Any, part: Any) -> tuple[Any, None]:
        distances = _distances(part[0][None], part[1][None], queries[:, None])
        return count + (distances == last[:, None]).sum(axis=1, dtype=jnp.int32), None

    parts = codes.reshape(-1, chunk, codes.shape[1]), wanted.reshape(-1, chunk)
    return lax.scan(look_at, jnp.zeros(len(queries), jnp.int32), parts)[0]


def _distances(codes: Any, wanted: Any, queries: Any) -> Any:
    # Not a sum over an axis, which could not be fused with the minimum that follows.
    counts = (
        lax.population_count(codes[..., word] ^ queries[..., word]).astype(jnp.int32)
        for word in range(codes.shape[-1])
    )
    return jnp.where(wanted, functools.reduce(operator.add, counts), _FAR)


def _best(distances: Any, rows: Any, k: int) -> tuple[Any, Any]:
    """The k smallest distances, the first among equals, and their rows."""
    smallest, places = lax.top_k(-distances, k)
    return -smallest, jnp.take_along_axis(rows, places, axis=1)


def _group_size(chunk: int, k: int) -> int:
    """Rows a group: as many groups are sorted as rows of the groups that are left."""
    return max(math.isqrt(chunk // min(k, chunk)), 1)


def _halves(codes: Words) -> np.ndarray:
    """Codes as uint32 [N, 2 W]; devices have no 64-bit integers."""
    return np.ascontiguousarray(codes, "<u8").view("<u4")


def _rows_between(codes: Sequence[Words], starts: Sequence[int], first: int, last: int) -> Words:
    """The codes of rows `first` to `last`; zeros where there are none."""
    result = np.zeros((last - first, codes[0].shape[1]), np.uint64)
    for start, array in zip(starts, codes, strict=True):
        begin, end = max(start, first), min(start + len(array), last)
        if begin < end:
            result[begin - first : end - first] = array[begin - start : end - start]
    return result


def _on_host(rows: np.ndarray, distances: np.ndarray, at_last: np.ndarray) -> Nearest:
    is_found = distances < _FAR
    distances = distances[is_found].astype(np.int64)
    return Nearest(
        rows[is_found].astype(np.int64), distances, int(at_last) if len(distances) else 0
    )
