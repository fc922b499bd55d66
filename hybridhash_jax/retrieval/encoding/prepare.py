"""What is taken of one image file while its pixels are at hand."""

import dataclasses
import os

import numpy as np
import simplejpeg
from PIL import Image

from input_pipeline.images.decode import (
    decode_image,
    decode_with_orientation,
    fits_in_memory,
    turned,
)
from input_pipeline.images.encoded import read_image_file
from input_pipeline.images.resample import resample, resample_few
from input_pipeline.images.transforms import ImageTransform

THUMBNAIL_SIDE = 160  # the longer one, at most
_QUALITY = 80


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One image: the crop that the network sees, uint8 [S, S, 3], and what the index keeps.

    What it keeps is of the upright image, as people see it; the crop is as the network was trained.
    """

    crop: np.ndarray
    width: int
    height: int
    hash: np.uint64 | None
    thumbnail: bytes | None


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How images are decoded and cropped, and what else is taken of them; threads may share it.

    `few` images begin sooner and then take longer.
    """

    transform: ImageTransform
    hashes: bool = False
    thumbnails: bool = False
    few: bool = False

    def of_file(self, path: str | bytes | os.PathLike[str]) -> Prepared:
        """Of an image file; `UnreadableImage` says why not, without its name."""
        data, options = read_image_file(os.fsdecode(path)), self.transform.options
        if options.apply_orientation:
            return self.of_pixels(decode_image(data, options))
        return self.of_pixels(*decode_with_orientation(data, options))

    def of_pixels(self, pixels: np.ndarray, orientation: int = 1) -> Prepared:
        """Of decoded pixels, uint8 [h, w, 3], which the network sees as they lie."""
        upright = turned(pixels, orientation)
        height, width, _ = upright.shape
        with fits_in_memory(width, height):
            return Prepared(
                self.crop(pixels),
                width,
                height,
                _perceptual_hash(upright) if self.hashes else None,
                thumbnail(upright) if self.thumbnails else None,
            )

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """The centre that evaluation takes, uint8 [S, S, 3]."""
        height, width, _ = pixels.shape
        size = self.transform.size
        out = np.empty((size, size, 3), np.uint8)
        cut = resample_few if self.few else resample
        cut(np.ascontiguousarray(pixels), self.transform.crop(width, height, None), out)
        return out


def thumbnail(pixels: np.ndarray, side: int = THUMBNAIL_SIDE) -> bytes:
    """A JPEG of uint8 [h, w, 3], the longer side at most `side`; small images keep their size."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=_QUALITY)


def _perceptual_hash(pixels: np.ndarray) -> np.uint64:
    from input_pipeline.near_duplicates.hashing import perceptual_hash

    return perceptual_hash(pixels)
