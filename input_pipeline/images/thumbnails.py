"""Small pictures of single images, to look at."""

from collections.abc import Iterable

import numpy as np

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image, fits_in_memory
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.vectors import Vectors


def load_thumbnails(
    images: np.ndarray | EncodedImages | Vectors,
    rows: Iterable[int],
    side: int = 224,
    *,
    upright: bool = False,
) -> dict[int, np.ndarray]:
    """Whole images by row, uint8 [h, w, 3], the longer side at most `side` pixels.

    Images in memory are given as they are; one that cannot be read is left out, and so are all of
    vectors whose names lead to no images. Files are turned as EXIF says where they are to be
    `upright`.
    """
    if isinstance(images, Vectors):
        if images.pictures is None:
            return {}
        images = images.pictures
    if isinstance(images, np.ndarray):
        return {row: as_rgb(images[row]) for row in rows}
    from PIL import Image

    # Broken images were reported before; here as much as there is will do.
    options = DecodeOptions(allow_truncated=True, apply_orientation=upright)
    found = {}
    for row in rows:
        try:
            pixels = decode_image(images.reader.read(row), options)
            with fits_in_memory(pixels.shape[1], pixels.shape[0]):
                picture = Image.fromarray(pixels)
                picture.thumbnail((side, side), Image.Resampling.LANCZOS)
                found[row] = np.asarray(picture)
        except UnreadableImage:
            continue
    return found


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image uint8 [h, w, 3] as it is, a grey one [h, w, 1] with its channel three times."""
    return np.broadcast_to(image, (*image.shape[:2], 3))
