"""Looks at the start of every image file before the first step of a long run."""

import contextlib
import functools
from collections.abc import Callable, Iterable

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions, read_header
from input_pipeline.images.encoded import FileReader, Reader
from input_pipeline.images.formats import starts_as
from input_pipeline.threads import available_cores, map_in_threads

_HEAD_BYTES = 2**16  # holds the header of nearly every photograph, with its EXIF thumbnail


def broken_headers(
    reader: Reader,
    rows: Iterable[int],
    options: DecodeOptions,
    num_workers: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[int, str]:
    """Why images cannot be used, by row: those missing, empty, no image, or too large.

    Nothing is decoded, so damage behind the header is not found. Of a file the first 64 KiB are
    read, and the rest only where the header is not in them; of other readers the whole record.

    Args:
      reader: of the images.
      rows: which to look at.
      options: what counts as readable.
      num_workers: threads; 0 is one, None is one a core.
      progress: called with 1 for each image that is done.
    """
    rows = [int(row) for row in rows]
    threads = available_cores() if num_workers is None else max(1, num_workers)
    check, broken = functools.partial(_reason, reader, options), {}
    with contextlib.closing(map_in_threads(check, rows, threads)) as reasons:
        for row, reason in zip(rows, reasons, strict=True):
            if reason is not None:
                broken[row] = reason
            progress(1)
    return broken


def _reason(reader: Reader, options: DecodeOptions, row: int) -> str | None:
    try:
        if not (isinstance(reader, FileReader) and _is_sound(reader, options, row)):
            read_header(reader.read(row), options)
    except UnreadableImage as error:
        return str(error)
    return None


def _is_sound(reader: FileReader, options: DecodeOptions, row: int) -> bool:
    """Whether the file's head is enough to say so; `UnreadableImage` if it is enough for no."""
    head = reader.read_head(row, _HEAD_BYTES)
    try:
        read_header(head, options)
    except UnreadableImage:
        # WebP, AVIF and some TIFF open only whole; what starts as no image needs no more.
        if len(head) < _HEAD_BYTES or not starts_as(head):
            raise
        return False
    return True
