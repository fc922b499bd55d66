"""Writes one ArrayRecord shard, whole or not at all, and knows which are complete."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image
from input_pipeline.images.transforms import shorter_side
from input_pipeline.packed.record_reader import count_records

# One record a group, so that a read fetches one; images are compressed already.
_WRITER_OPTIONS = "group_size:1,uncompressed"
INCOMPLETE_SUFFIX = ".incomplete"
SIDECAR_SUFFIX = ".json"


@dataclass(frozen=True)
class Shard:
    """What is known of a shard.

    Attributes:
      file: its name.
      images: how many records it holds.
      bytes: its size.
      sha256: over every record's length (8 bytes, little end first) and content.
      left_out: (image, reason) of those it lacks because they are unreadable.
    """

    file: str
    images: int
    bytes: int
    sha256: str
    left_out: tuple[tuple[int, str], ...]


def write_shard(
    path: Path,
    images: Iterable[tuple[int, bytes | UnreadableImage]],
    encode: Callable[[int, bytes], bytes],
    *,
    skip: bool,
) -> Shard:
    """Writes a shard and a small JSON file beside it that says it is complete.

    Args:
      path: the shard's; its folder exists.
      images: (image, its bytes or why there are none), in the order of the records.
      encode: from (image, bytes) to a record.
      skip: whether unreadable images are left out; otherwise one of them is enough for the
        shard not to be written, but all of them are found.

    Raises:
      DataError: if it cannot be written, for example because the disk is full.
    """
    digest, count, left_out = hashlib.sha256(), 0, []
    with _ShardFile(path) as file:
        for image, data in images:
            if isinstance(data, UnreadableImage):
                left_out.append((image, str(data)))
            elif skip or not left_out:
                record = encode(image, data)
                file.write(record)
                digest.update(len(record).to_bytes(8, "little"))
                digest.update(record)
                count += 1
        if left_out and not skip:
            return Shard(path.name, 0, 0, "", tuple(left_out))
        size = file.close()
        shard = Shard(path.name, count, size, digest.hexdigest(), tuple(left_out))
        # Before the shard has its name: a shard with a name is a complete one.
        write_atomically(_sidecar(path), (json.dumps(asdict(shard)) + "\n").encode())
        file.keep()
    return shard


def complete_shard(path: Path) -> Shard | None:
    """What an earlier run wrote under this name; None if that is missing or not complete."""
    try:
        found = json.loads(_sidecar(path).read_bytes())
        shard = Shard(**found | {"left_out": tuple(tuple(image) for image in found["left_out"])})
        if path.stat().st_size != shard.bytes:
            return None
        return shard if count_records(os.fspath(path)) == shard.images else None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):
        return None


def prepare_image(data: bytes, options: DecodeOptions, resize: int | None, quality: int) -> bytes:
    """Checks that an image can be decoded, and makes it smaller if asked.

    Args:
      data: the image file.
      options: what counts as readable.
      resize: what its shorter side becomes, in pixels, the longer one rounded down as by
        torchvision's `Resize`; None, or an image that is no larger, keeps the file's bytes.
      quality: of the JPEG that a smaller image becomes, 1 to 100.

    Raises:
      UnreadableImage: see `decode.decode_image`.
    """
    pixels = decode_image(data, options)
    height, width = pixels.shape[:2]
    if resize is None or min(width, height) <= resize:
        return data
    size = shorter_side(width, height, resize)
    file = io.BytesIO()
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    small.save(file, "JPEG", quality=quality)
    return file.getvalue()


class _ShardFile:
    """An ArrayRecord file that gets its name with `keep`, or is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + INCOMPLETE_SUFFIX)
        self._writer = ArrayRecordWriter(os.fspath(self._part), _WRITER_OPTIONS)

    def __enter__(self) -> Self:
        return self

    def write(self, record: bytes) -> None:
        with self._explained():
            self._writer.write(record)

    def close(self) -> int:
        """Brings everything to the disk; returns the file's size. Only here errors are seen."""
        with self._explained():
            self._writer.close()
            with open(self._part, "rb+") as file:
                os.fsync(file.fileno())
                return file.seek(0, os.SEEK_END)

    def keep(self) -> None:
        with self._explained():
            os.replace(self._part, self._path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RuntimeError, OSError):
            if self._writer.is_open():
                self._writer.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"cannot write {self._path} ({error}). The shards before it are complete: make "
                "room, or whatever the reason asks for, and run the same command again"
            ) from error


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)
