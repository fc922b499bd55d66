"""Vectors that cannot be mapped as they lie in a file: written into a cache once, and mapped there."""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from input_pipeline.atomic_file import open_atomically
from input_pipeline.errors import DataError
from input_pipeline.progress import Progress
from input_pipeline.vectors.array_files import ArrayFileError, map_array

DEFAULT_CACHE = "~/.cache/hybridhash_jax/embeddings"

_FORGOTTEN_SECONDS = 3600  # since something was written


def say(text: str) -> None:
    """One line of warning; on stderr where no logging is set up."""
    logging.getLogger(__name__).warning("%s", text)


def converted(
    source: Path,
    reason: str,
    shape: tuple[int, int],
    dtype: np.dtype,
    chunks: Callable[[], Iterable[np.ndarray]],
    cache: Path,
) -> np.ndarray:
    """The mapped array [N, D] that `chunks` of rows make; taken from the cache if it is there.

    The cache keeps one array a source, and makes it again when the file's size or time is another.

    Raises:
      DataError: the cache cannot be written, a number is beyond `dtype`, or what `chunks` raises.
    """
    facts, place = source.stat(), hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:16]
    version = f"{facts.st_size}-{facts.st_mtime_ns}-{dtype.name}"
    path = cache / f"{place}-{version}.npy"
    if (found := _kept(path, shape, dtype)) is not None:
        return found
    size = shape[0] * shape[1] * dtype.itemsize
    say(f"{source}: {reason}; written once as {dtype.name} into {path} ({size / 1e6:,.1f} MB)")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _tidy(cache, place, path)
        if shutil.disk_usage(cache).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise DataError(_no_cache(cache, size, error)) from None
    try:
        _write(source, path, shape, dtype, chunks)
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise DataError(_no_cache(cache, size, error.__cause__)) from None
        raise
    return map_array(path)


def narrowed(rows: np.ndarray, dtype: np.dtype, what: str, first: int = 0) -> np.ndarray:
    """Rows of numbers, numbered from `first`, as `dtype`; DataError for those it cannot hold."""
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(rows, dtype)
    except FloatingPointError:
        largest = np.finfo(dtype).max
        beyond = (np.isfinite(rows) & (np.abs(rows) > largest)).any(axis=1)
        raise DataError(
            f"{what}: row {first + int(beyond.argmax())} has numbers beyond {dtype.name}'s range "
            f"({largest:.1e}), and {rows.dtype.name} is read as {dtype.name}; scale the vectors"
        ) from None


def _tidy(cache: Path, place: str, path: Path) -> None:
    """Removes other versions of a source, and what processes that were killed left."""
    for old in cache.glob(f"{place}-*.npy"):
        if old != path:  # which another process may just have made
            old.unlink(missing_ok=True)
    for part in cache.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _FORGOTTEN_SECONDS:
                part.unlink()


def _kept(path: Path, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        found = map_array(path)
    except ArrayFileError:  # made again
        return None
    return found if (found.shape, found.dtype) == (shape, dtype) else None


def _write(
    source: Path,
    path: Path,
    shape: tuple[int, int],
    dtype: np.dtype,
    chunks: Callable[[], Iterable[np.ndarray]],
) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    told = Progress("converting the vectors", shape[0], "vectors")
    with open_atomically(path) as file, told:
        np.lib.format.write_array_header_1_0(file, header)
        first = 0
        for chunk in chunks():
            rows = narrowed(chunk, dtype, f"{source}", first)
            # Not through a map, which ends the process where the disk is full.
            file.write(rows.data)
            told.update(len(rows))
            first += len(rows)


def _no_cache(cache: Path, size: int, error: OSError) -> str:
    return (
        f"the cache {cache} cannot be written ({error.strerror or error}), and "
        f"{size / 1e6:,.1f} MB are needed there: make room, or save the vectors as float16 or "
        "float32 with numpy.save, which needs no cache"
    )
