"""Images at the size at which a report shows them."""

import base64
import io

import numpy as np
from PIL import Image

LONGER_SIDE = 96  # px, of what pages embed
_FEW_PIXELS = 48  # up to here an image is shown as the pixels it has


def fit(image: np.ndarray, side: int) -> Image.Image:
    """Scales uint8 [h, w, 3] into a square of `side` px, with its proportions kept.

    Small images are enlarged by a whole factor, each pixel a block; larger ones are reduced.
    """
    picture = Image.fromarray(image)
    longer = max(picture.size)
    if longer * 2 <= side:
        factor = side // longer
        return picture.resize(
            (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
        )
    return _resized(picture, side) if longer != side else picture


def data_uri(image: np.ndarray) -> str:
    """An image, uint8 [h, w, 3], of at most 96 px on its longer side as a data: URI."""
    picture = Image.fromarray(image)
    if max(picture.size) > LONGER_SIDE:
        picture = _resized(picture, LONGER_SIDE)
    exact = is_small(image)
    content = io.BytesIO()
    if exact:
        picture.save(content, "PNG", optimize=True)
    else:
        picture.save(content, "JPEG", quality=85)
    return encoded(content.getvalue(), "png" if exact else "jpeg")


def is_small(image: np.ndarray) -> bool:
    """Whether an image has so few pixels that they should be seen as such."""
    return max(image.shape[:2]) <= _FEW_PIXELS


def encoded(content: bytes, kind: str = "png") -> str:
    """A picture file as a data: URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _resized(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.resize(size, Image.Resampling.LANCZOS)
