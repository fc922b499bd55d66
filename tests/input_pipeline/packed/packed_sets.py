"""Makes small images of several formats and packs them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from input_pipeline.packed.packing import PackingSummary, pack_images
from input_pipeline.splits import Splits

CLASSES = ("cat", "dog", "tree")
_KINDS = (
    ("JPEG", "RGB"),
    ("JPEG", "L"),
    ("PNG", "RGB"),
    ("PNG", "P"),
    ("GIF", "P"),
    ("JPEG", "CMYK"),
    ("BMP", "RGB"),
)


def make_image(number: int, width: int = 40, height: int = 31) -> bytes:
    """An encoded image of noise; numbers go round seven kinds of format and mode."""
    words = np.random.Philox(key=number).random_raw(width * height)
    pixels = (words[:, None] >> np.array([0, 8, 16], np.uint64)).astype(np.uint8)
    image = Image.fromarray(pixels.reshape(height, width, 3))
    kind, mode = _KINDS[number % len(_KINDS)]
    file = io.BytesIO()
    image.convert(mode).save(file, kind)
    return file.getvalue()


class Images:
    """Ten images, of which the last is in no split: what `pack_images` takes."""

    def __init__(self, count: int = 10) -> None:
        self.files: list[bytes] = [make_image(i) for i in range(count)]
        self.names = [f"folder {i % 3}/{i}.jpg" for i in range(count)]
        self.labels = (np.arange(count)[:, None] >> np.arange(3) & 1).astype(np.uint8)
        # Image 5 is in train and the database.
        self.splits = Splits(np.array([7, 2, 5]), np.array([1, 8]), np.array([5, 0, 3, 4, 6]))
        self.order = [7, 2, 5, 1, 8, 0, 3, 4, 6]
        self.reads: list[int] = []

    def read(self, row: int) -> bytes:
        self.reads.append(row)
        return self.files[row]

    def pack(self, out: Path, **options: Any) -> PackingSummary:
        options = {"name": "things", "images_per_shard": 4, "class_names": CLASSES} | options
        read = options.pop("read", self.read)
        return pack_images(self.names, self.labels, self.splits, read, out, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
