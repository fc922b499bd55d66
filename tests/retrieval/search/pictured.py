"""An index of small pictures of one colour each, whose codes need no network."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from hybridhash_jax.retrieval.encoding.listing import label_of
from hybridhash_jax.retrieval.index import Entry, create_index, open_writer
from tests.retrieval.encoding import fakes

Colour = tuple[int, int, int]
ODD = "sea/a,\n\udcff.png"
COLOURS: dict[str, Colour] = {
    "sea/1.png": (0, 0, 255),
    "sea/2.png": (0, 0, 254),
    "sea/3.png": (0, 0, 253),
    "wood/1.png": (0, 255, 0),
    ODD: (3, 3, 3),
}


class FakeEncoder(fakes.FakeEncoder):
    notes: tuple[str, ...]

    def start(self, crops: np.ndarray, *, quick: bool = False):
        return super().start(crops)


def picture(path: Path, colour: Colour, size: tuple[int, int] = (16, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "PNG")
    return path


def entry_of(root: Path, name: str) -> Entry:
    status = (root / name).stat()
    path = os.fsencode(name)
    return Entry(path, status.st_size, status.st_mtime_ns, 16, 12, label_of(path))


def make_index(
    folder: Path, colours: Mapping[str, Colour] = COLOURS, *, thumbnails: bool = False
) -> Path:
    """The index folder/"i" of the pictures in folder/"images", one segment a picture."""
    encoder, root = FakeEncoder(), folder / "images"
    create_index(folder / "i", encoder.model, root, encoder.files)
    with open_writer(folder / "i") as writer:
        for name, colour in colours.items():
            picture(root / name, colour)
            jpeg = [b"\xff\xd8thumbnail"] if thumbnails else None
            writer.add([entry_of(root, name)], np.array([colour], np.uint8), None, jpeg)
    return folder / "i"


def distance(first: Colour, second: Colour) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(first, second, strict=True))
