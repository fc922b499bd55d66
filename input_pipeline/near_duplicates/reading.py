"""Reads images from where they lie, and makes of each what is compared."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image, fits_in_memory
from input_pipeline.images.encoded import Reader
from input_pipeline.images.formats import HEIF_SUFFIXES, IMAGE_SUFFIXES
from input_pipeline.near_duplicates.hashing import perceptual_hash
from input_pipeline.near_duplicates.pictures import Pictures, small_picture
from input_pipeline.threads import map_in_threads

_ENDS = (*IMAGE_SUFFIXES, *HEIF_SUFFIXES)


@dataclass(frozen=True, eq=False)
class ReadImages:
    """The images that could be read.

    Attributes:
      pictures: of the readable ones.
      rows: int64 [N], which of the given ones these are.
      sizes: int64 [N, 2], width and height in pixels.
      unreadable: the reason by row.
    """

    pictures: Pictures
    rows: np.ndarray
    sizes: np.ndarray
    unreadable: dict[int, str]


def read_pictures(
    reader: Reader,
    count: int,
    options: DecodeOptions,
    *,
    num_workers: int,
    progress: Callable[[int], object] = lambda _: None,
    hashes: np.ndarray | None = None,
) -> ReadImages:
    """Decodes images 0..count-1 by threads; `progress` is called with 1 for each.

    `hashes` uint64 [N] are given where they are known already, and the images may be thumbnails.
    """

    def read(row: int) -> tuple[np.uint64, np.ndarray, int, int] | str:
        try:
            pixels = decode_image(reader.read(row), options)
            height, width = pixels.shape[:2]
            with fits_in_memory(width, height):
                value = perceptual_hash(pixels) if hashes is None else hashes[row]
                return value, small_picture(pixels), width, height
        except UnreadableImage as error:
            return str(error)

    parts, rows, sizes, unreadable = [], [], [], {}
    with contextlib.closing(map_in_threads(read, range(count), num_workers)) as results:
        for row, one in enumerate(results):
            if isinstance(one, str):
                unreadable[row] = one
            else:
                hash_, small, width, height = one
                parts.append((hash_, small, width / height))
                rows.append(row)
                sizes.append((width, height))
            progress(1)
    return ReadImages(
        Pictures.of(parts),
        np.array(rows, np.int64),
        np.array(sizes, np.int64).reshape(-1, 2),
        unreadable,
    )


def image_files(folder: str | os.PathLike[str]) -> list[str]:
    """The image files below a folder, by the ends of their names: paths relative to it, sorted.

    Hidden ones are passed over. Links to folders are not followed, nor are those out of the folder.
    Names that are not UTF-8 are as `os.fsdecode` makes them.

    Raises:
      DataError: it, or a folder in it, cannot be read.
    """
    top = os.path.realpath(folder)
    found: list[str] = []

    def refuse(error: OSError) -> None:
        where = os.fsencode(error.filename or top).decode("utf-8", "backslashreplace")
        raise DataError(
            f"cannot read the folder {where} ({error.strerror}); make it readable or move it away"
        )

    for place, folders, files in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = os.path.join(place, name)
            if not name.startswith(".") and name.lower().endswith(_ENDS):
                found += [os.path.relpath(path, top)] if _is_inside(path, top) else []
    return sorted(found, key=os.fsencode)


def _is_inside(path: str, top: str) -> bool:
    """Is it a file, or a link to one below the folder?"""
    real = os.path.realpath(path) if os.path.islink(path) else path
    return os.path.isfile(real) and os.path.commonpath([real, top]) == top
