"""Image files of the index, opened below its root and nowhere else."""

import os
import stat
from collections.abc import Iterator
from typing import IO, NamedTuple

from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.service.problems import Problem
from input_pipeline.images.formats import starts_as

_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp",
    "GIF": "image/gif", "TIFF": "image/tiff", "AVIF": "image/avif", "HEIF": "image/heif",
}  # fmt: skip
_CHUNK = 1 << 16
_HEAD = 64


class ImageFile(NamedTuple):
    """An open image file."""

    file: IO[bytes]
    size: int
    media_type: str


def open_image(index: Index, path: bytes) -> ImageFile:
    """Opens an image of the index by its path there; links are followed, but not out of the root.

    Raises:
      Problem: 404 where there is none, or no image any more.
    """
    if index.root is None:
        raise Problem(404, "the index knows no folder of its images; note it with hybridhash index move")  # fmt: skip
    file = _opened_below(os.fsencode(index.root), path)
    try:
        status = os.fstat(file.fileno())
        kinds = starts_as(file.read(_HEAD)) if stat.S_ISREG(status.st_mode) else []
        if not kinds:
            raise _gone()
        file.seek(0)
        return ImageFile(file, status.st_size, _TYPES[kinds[0]])
    except BaseException:
        file.close()
        raise


def in_chunks(image: ImageFile) -> Iterator[bytes]:
    """The bytes of a file, which is closed at the end; no more than its size was."""
    left = image.size
    with image.file as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _opened_below(root: bytes, path: bytes) -> IO[bytes]:
    top = os.path.realpath(root)
    real = os.path.realpath(os.path.join(top, path))
    if os.path.commonpath([real, top]) != top:
        raise _gone()
    try:
        # Neither a link that came since, nor a pipe that nobody writes to.
        number = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _gone() from error
    try:
        return os.fdopen(number, "rb")
    except IsADirectoryError as error:
        os.close(number)
        raise _gone() from error


def _gone() -> Problem:
    return Problem(404, "the image file is not there any more; encode the folder again")
