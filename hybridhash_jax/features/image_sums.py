"""Checksums of images, by which their features are found; those of files are remembered."""

import contextlib
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.features.row_files import SUM_BYTES
from hybridhash_jax.runtime.failures import only_tells
from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import UnreadableImage
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.threads import available_cores, map_in_threads

MEMORY = "image_sums"
_ENTRY = np.dtype([("state", np.uint8, SUM_BYTES), ("sum", np.uint8, SUM_BYTES), ("check", "<u4")])
_MOST_ENTRIES = 2_000_000  # 72 MB
# A file may change twice within one tick of its file system's clock.
_SETTLED_SECONDS = 2.0
_CHUNK = 64


def image_checksums(
    images: np.ndarray | EncodedImages,
    rows: np.ndarray | None = None,
    *,
    num_workers: int | None = None,
    on_images: Callable[[int], object] | None = None,
    folder: str | Path | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """(uint8 [N, 16], reasons by position for images that cannot be read: zeros).

    Args:
      images: uint8 [M, H, W, 3], or files or records.
      rows: which of them, int [N]; None is all.
      num_workers: threads; None is one a core.
      on_images: called with the number of images done since the last call.
      folder: the cache folder, where checksums of files are remembered; a file that has not changed
        since is not read again. Files in buckets and records are always read.

    Raises:
      DataError: a packed set that is missing or damaged as a whole.
    """
    chosen = np.arange(len(images)) if rows is None else np.asarray(rows)
    memory = _Memory(None if folder is None else Path(folder).expanduser())
    sums = np.zeros((len(chosen), SUM_BYTES), np.uint8)
    reasons: dict[int, str] = {}

    def checksum(row: int) -> bytes | str:
        if isinstance(images, np.ndarray):
            return _of_array(images[row])
        try:
            return memory.sum_of(images, row)
        except UnreadableImage as error:
            return str(error)

    def checksums(part: Sequence[int]) -> list[bytes | str]:
        return [checksum(row) for row in part]

    parts = (chosen[at : at + _CHUNK].tolist() for at in range(0, len(chosen), _CHUNK))
    position = 0
    workers = available_cores() if num_workers is None else max(1, num_workers)
    with contextlib.closing(map_in_threads(checksums, parts, workers)) as done:
        for found in done:
            for one in found:
                if isinstance(one, str):
                    reasons[position] = one
                else:
                    sums[position] = np.frombuffer(one, np.uint8)
                position += 1
            if on_images:
                on_images(len(found))
    memory.save()
    return sums, reasons


def _of_array(image: np.ndarray) -> bytes:
    # The shape too: a 2 x 8 image is not a 4 x 4 one. `person` tells arrays from files.
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=SUM_BYTES, person=b"array")
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _of_file(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=SUM_BYTES, person=b"file").digest()


class _Memory:
    """Checksums of files by their states: path, size and times.

    One small file holds them, 36 bytes each with a CRC-32 of its own. Several processes may write
    it; the last one's stays, and what it lacks is read again.
    """

    def __init__(self, folder: Path | None):
        self._path = None if folder is None else folder / MEMORY
        self._sums = {} if self._path is None else _read(self._path)
        self._new: dict[bytes, bytes] = {}

    def sum_of(self, images: EncodedImages, row: int) -> bytes:
        """The checksum of an image, by many threads at once; UnreadableImage."""
        state = self._state(images, row)
        if state is not None and state in self._sums:
            return self._sums[state]
        found = _of_file(images.reader.read(row))
        if state is not None:
            self._new[state] = found
        return found

    def _state(self, images: EncodedImages, row: int) -> bytes | None:
        """What changes when a file does; None of what is not to be remembered."""
        reader = images.reader
        if self._path is None or not isinstance(reader, FileReader):
            return None
        path = os.path.abspath(f"{reader.directory}/{reader.names[row]}")
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None  # a bucket, or reading says why
        # The time of the last change of any kind, too: copying can keep the other one.
        if time.time() - max(found.st_mtime, found.st_ctime) < _SETTLED_SECONDS:
            return None
        times = struct.pack("<qqq", found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return hashlib.blake2b(times + os.fsencode(path), digest_size=SUM_BYTES).digest()

    def save(self) -> None:
        """Adds what is new to the file; a cache that cannot be written is no reason to stop."""
        if self._path is None or not self._new:
            return
        pairs = list({**_read(self._path), **self._new}.items())[-_MOST_ENTRIES:]
        with only_tells(str(self._path)):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(
                self._path, b"".join(a + b + struct.pack("<I", zlib.crc32(a + b)) for a, b in pairs)
            )


def _read(path: Path) -> dict[bytes, bytes]:
    """What is remembered; entries that are damaged, or cut, are not."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    size, found = _ENTRY.itemsize, {}
    for start in range(0, len(data) - size + 1, size):
        pair = data[start : start + 2 * SUM_BYTES]
        if zlib.crc32(pair) == int.from_bytes(data[start + 2 * SUM_BYTES : start + size], "little"):
            found[pair[:SUM_BYTES]] = pair[SUM_BYTES:]
    return found
