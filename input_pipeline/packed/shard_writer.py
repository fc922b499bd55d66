"""Writes one ArrayRecord shard, whole or not at all, and knows which are complete."""

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from input_pipeline.atomic_file import sync, write_atomically
from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image, fits_in_memory
from input_pipeline.images.transforms import shorter_side
from input_pipeline.packed.record_reader import count_records

# One record a group, so that a read fetches one; images are compressed already.
_WRITER_OPTIONS = "group_size:1,uncompressed"
INCOMPLETE_SUFFIX = ".incomplete"
SIDECAR_SUFFIX = ".json"


@dataclass(frozen=True)
class Shard:
    """What is known of a shard: its name, number of records and size.

    `sha256` is over every record's length (8 bytes, little end first) and content; `left_out` are
    (image, reason) of those it lacks because they are unreadable.
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
    progress: Callable[[int], object] = lambda _: None,
    *,
    skip: bool,
) -> Shard:
    """Writes a shard and a small JSON file beside it that says it is complete.

    `images` are (image, its bytes or why there are none), which `encode` makes records of.
    Without `skip` an unreadable image keeps the shard from being written, but all are found.
    DataError if it cannot be written, for example because the disk is full.
    """
    digest, count, left_out = hashlib.sha256(), 0, []
    # A name of its own, so that no other process writes into the file, or into what it becomes.
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{INCOMPLETE_SUFFIX}")
    writer = None
    try:
        with _explained(path):
            for left in path.parent.glob(f"{path.name}*{INCOMPLETE_SUFFIX}"):  # by a killed process
                left.unlink(missing_ok=True)
        # In the block: Ctrl-C may come in the moment in which the file is made.
        writer = ArrayRecordWriter(os.fspath(part), _WRITER_OPTIONS)
        for image, data in images:
            if isinstance(data, UnreadableImage):
                left_out.append((image, str(data)))
            elif skip or not left_out:
                record = encode(image, data)
                with _explained(path):
                    writer.write(record)
                digest.update(len(record).to_bytes(8, "little"))
                digest.update(record)
                count += 1
            progress(1)
        if left_out and not skip:
            return Shard(path.name, 0, 0, "", tuple(left_out))
        with _explained(path):
            writer.close()  # only here errors of writing are seen
            with open(part, "rb+") as file:
                sync(file.fileno())
            size = part.stat().st_size
            shard = Shard(path.name, count, size, digest.hexdigest(), tuple(left_out))
            # Before the shard has its name: a shard with a name is a complete one.
            write_sidecar(path, shard)
            os.replace(part, path)
        return shard
    finally:
        with contextlib.suppress(RuntimeError, OSError):
            if writer is not None and writer.is_open():
                writer.close()
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def complete_shard(path: Path) -> Shard | None:
    """What an earlier run wrote under this name; None if that is missing or not complete."""
    try:
        found = json.loads(_sidecar(path).read_bytes())
        shard = Shard(**found | {"left_out": tuple(tuple(image) for image in found["left_out"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return shard if is_whole(path, shard.images, shard.bytes) else None


def is_whole(path: Path, images: int, size: int) -> bool:
    """Is there a shard of so many records and bytes?"""
    try:
        return path.stat().st_size == size and count_records(os.fspath(path)) == images
    except (OSError, RuntimeError):
        return False


def write_sidecar(path: Path, shard: Shard) -> None:
    """Writes the small file by which `complete_shard` knows a shard."""
    write_atomically(_sidecar(path), (json.dumps(asdict(shard)) + "\n").encode())


def prepare_image(data: bytes, options: DecodeOptions, resize: int | None, quality: int) -> bytes:
    """Checks that an image file can be decoded, and makes it smaller if asked.

    Its shorter side becomes `resize` pixels, the longer one rounded down as by torchvision's
    `Resize`, and it a JPEG of this quality; None, or an image that is no larger, keeps the bytes.
    `UnreadableImage` as by `decode.decode_image`.
    """
    pixels = decode_image(data, options)
    height, width = pixels.shape[:2]
    if resize is None or min(width, height) <= resize:
        return data
    size = shorter_side(width, height, resize)
    file = io.BytesIO()
    with fits_in_memory(width, height):
        small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    small.save(file, "JPEG", quality=quality)
    return file.getvalue()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"cannot write {path} ({error}). The shards before it are complete: make room, or "
            "whatever the reason asks for, and run the same command again"
        ) from error


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)
