"""From an uploaded file to what the network sees; runs in threads."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from hybridhash_jax.retrieval.encoding.prepare import Preparation, thumbnail
from hybridhash_jax.retrieval.service.problems import Problem
from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import MAX_PIXELS, DecodeOptions, decode_image, read_header
from input_pipeline.images.formats import accepted_formats, starts_as
from input_pipeline.images.transforms import ImageTransform

Result = TypeVar("Result")
_LARGE = 10_000_000  # pixels: of such images one at a time is decoded, for its memory


class Decoder:
    """Decodes what clients send, within a limit that is looked at before."""

    def __init__(self, pixels: int):
        """`pixels` is of the largest image."""
        self._pixels = pixels
        self._large = threading.Lock()

    def crop(self, data: bytes, transform: ImageTransform) -> np.ndarray:
        """What the network sees of an image file, uint8 [S, S, 3].

        Raises:
          Problem: 415 for another format, 413 for too many pixels, 422 for a damaged file.
        """
        return self._made(data, transform.options, Preparation(transform).crop)

    def thumbnail(self, data: bytes) -> bytes:
        """A small JPEG of an image file; a problem as of `crop`."""
        return self._made(data, DecodeOptions(apply_orientation=True), thumbnail)

    def _made(
        self, data: bytes, options: DecodeOptions, make: Callable[[np.ndarray], Result]
    ) -> Result:
        """What `make` makes of the pixels, uint8 [h, w, 3]."""
        if not starts_as(data):
            raise Problem(415, f"the image is of no format that is read; give {', '.join(accepted_formats())}")  # fmt: skip
        try:
            header = read_header(data, DecodeOptions(max_pixels=2**62))
            self._check(header.width, header.height)
            large = header.width * header.height > _LARGE
            with self._large if large else contextlib.nullcontext():
                limited = dataclasses.replace(options, max_pixels=self._pixels)
                return make(decode_image(data, limited))
        except UnreadableImage as error:
            raise Problem(422, f"the image cannot be read: {error}. Give another file") from error

    def _check(self, width: int, height: int) -> None:
        if width * height > self._pixels:
            raise Problem(413, f"the image has {width:,} x {height:,} pixels; at most {min(self._pixels, MAX_PIXELS):,} are taken. Make it smaller")  # fmt: skip
