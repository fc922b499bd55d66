"""Reads images from where they lie, and makes of each what is compared."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import (
    DecodeOptions,
    decode_image,
    fits_in_memory,
    read_header,
)
from input_pipeline.images.encoded import Reader
from input_pipeline.images.formats import HEIF_SUFFIXES, IMAGE_SUFFIXES
from input_pipeline.near_duplicates.hashing import perceptual_hash
from input_pipeline.near_duplicates.pictures import Pictures, small_picture
from input_pipeline.threads import map_in_threads

_ENDS = (*IMAGE_SUFFIXES, *HEIF_SUFFIXES)
# So much of a picture within so many levels of black or white is what cut levels leave.
_LOST, _NEAR_LEVELS = 0.9, 8


@dataclass(frozen=True, eq=False)
class ReadImages:
    """The images that can be compared.

    Attributes:
      pictures: of these.
      rows: int64 [N], which of the given ones these are.
      sizes: int64 [N, 2], width and height in pixels.
      unreadable: why others cannot be, by row.
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
    files: Reader | None = None,
) -> ReadImages:
    """Decodes images 0..count-1 by threads; `progress` is called with 1 for each.

    `hashes` uint64 [N] are given where they are known already, and the images may be thumbnails;
    `files` then reads what they are thumbnails of. Images of more than 8 bits that decoding leaves
    nearly black and white count as unreadable: different ones would be equal.
    """

    def read(row: int) -> tuple[np.uint64, np.ndarray, int, int] | str:
        try:
            data = reader.read(row)
            pixels = decode_image(data, options)
            height, width = pixels.shape[:2]
            with fits_in_memory(width, height):
                small = small_picture(pixels)
                if _is_black_and_white(small):
                    mode = ""
                    with contextlib.suppress(UnreadableImage):  # a thumbnail's may be another now
                        mode = read_header(files.read(row) if files else data, options).mode
                    _refuse_lost_levels(mode)
                value = perceptual_hash(pixels) if hashes is None else hashes[row]
                return value, small, width, height
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


def _is_black_and_white(small: np.ndarray) -> bool:
    return ((small <= _NEAR_LEVELS) | (small >= 255 - _NEAR_LEVELS)).mean() >= _LOST


def _refuse_lost_levels(mode: str) -> None:
    if mode == "F" or mode.startswith("I"):  # Pillow cuts these off at 255
        raise UnreadableImage(
            f"its grey levels are of more than 8 bits (Pillow's mode {mode}) and become nearly black "
            "and white; convert it to 8 bits to have it compared"
        )


def image_files(folder: str | os.PathLike[str], closed: dict[str, str] | None = None) -> list[str]:
    """The image files below a folder, by the ends of their names: paths relative to it, sorted.

    Hidden ones are passed over. Links to folders are not followed, nor are those out of the folder.
    Names that are not UTF-8 are as `os.fsdecode` makes them. `closed` takes why folders in it cannot
    be read, by their paths.

    Raises:
      DataError: it cannot be read, or, without `closed`, a folder in it.
    """
    top = os.path.realpath(folder)
    found: list[str] = []
    waiting = [top]  # not os.walk, which calls itself for each folder and so cannot go deep
    while waiting:
        place = waiting.pop()
        try:
            entries = _visible(place)
        except OSError as error:
            if place == top or closed is None:
                where = os.fsencode(place).decode("utf-8", "backslashreplace")
                raise DataError(
                    f"cannot read the folder {where} ({error.strerror}); make it readable or move it "
                    "away"
                ) from error
            closed[os.path.relpath(place, top)] = error.strerror or str(error)
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.name.lower().endswith(_ENDS) and _is_inside(entry.path, top):
                found.append(os.path.relpath(entry.path, top))
    return sorted(found, key=os.fsencode)


def _visible(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, without hidden names."""
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _is_inside(path: str, top: str) -> bool:
    """Is it a file, or a link to one below the folder?"""
    real = os.path.realpath(path) if os.path.islink(path) else path
    return os.path.isfile(real) and os.path.commonpath([real, top]) == top
