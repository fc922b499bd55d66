"""What is wrong with what a caller gives as images. Imports nothing that is slow."""

import os
from collections.abc import Iterable

import numpy as np

_IMAGE = "an image is a file, or pixels uint8 [h, w, 3]"


def wrong_image(image: object, accepted: str = _IMAGE) -> str | None:
    """What is wrong with one image, a file's name or its pixels; None where nothing is.

    `accepted` is what else than an image the caller would take.
    """
    if isinstance(image, np.ndarray):
        if not image.size:
            return f"an image has pixels; this array is {list(image.shape)}"
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            return f"pixels are uint8 [h, w, 3], not {image.dtype} {list(image.shape)}"
        return None
    if not isinstance(image, str | bytes | os.PathLike):
        return f"{accepted}; this is {type(image).__name__} (np.asarray(image) makes an array of PIL's)"
    if isinstance(image, bytes) and b"\0" in image:
        return (
            "give a file's name, not what is in it; "
            "np.asarray(PIL.Image.open(...).convert('RGB')) makes an array of an image"
        )
    return None


def wrong_images(images: object) -> str | None:
    """What is wrong with what should be several images; None where nothing is."""
    if isinstance(images, str | bytes | os.PathLike):
        return f"images must be several: [{os.fspath(images)!r}] for one"
    is_one = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3
    if is_one or not isinstance(images, Iterable):
        return f"images must be several: [image] for one; this is {type(images).__name__}"
    return None
