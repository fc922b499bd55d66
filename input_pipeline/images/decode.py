"""From the bytes of an image file to RGB pixels, the same as Pillow's, or a reason why not.

JPEG is decoded by libjpeg-turbo without Pillow around it, in half the time. Whatever that will not
do (CMYK, damaged data, other formats) goes to Pillow, whose verdict counts.
"""

import io
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from input_pipeline.errors import UnreadableImage
from input_pipeline.options import Option

# Pillow's own limit: a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485
OPTIONS = (Option("max_pixels", "largest image that is decoded", at_least=1),)
_JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class DecodeOptions:
    """What counts as readable."""

    allow_truncated: bool = False  # take a JPEG whose data end early, with grey for the rest
    # Larger ones are refused undecoded: a small file can claim a size that no memory holds.
    max_pixels: int = MAX_PIXELS
    apply_orientation: bool = False  # as EXIF says; published protocols do not


def decode_image(data: bytes, options: DecodeOptions = DecodeOptions()) -> np.ndarray:
    """Decodes a file's bytes as `PIL.Image.open(...).convert("RGB")` would, into uint8 [h, w, 3].

    Any format that Pillow reads; the first frame counts. `UnreadableImage` for no image, one that
    is damaged or cut off, or larger than `options.max_pixels`.
    """
    if data.startswith(_JPEG_START) and not options.apply_orientation:
        pixels = _decode_jpeg(data, options)
        if pixels is not None:
            return pixels
    return np.asarray(_decode_with_pillow(data, options))


def _decode_jpeg(data: bytes, options: DecodeOptions) -> np.ndarray | None:
    """The pixels; None if Pillow has to decide."""
    try:
        *size, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: a header without a colour space
        return None
    height, width = map(int, size)
    _check_size(width, height, options)
    if space not in ("YCbCr", "Gray", "RGB"):
        return None
    # At an odd address: libjpeg-turbo sends aligned rows past the cache to memory, but they are
    # read right away.
    buffer = np.empty(height * width * 3 + 1, np.uint8)[1:]
    try:
        return simplejpeg.decode_jpeg(data, buffer=buffer, strict=not options.allow_truncated)
    except ValueError:  # also for what Pillow forgives, such as stray bytes between segments
        return None


def _decode_with_pillow(data: bytes, options: DecodeOptions) -> Image.Image:
    with _open(data, options) as image:
        try:
            image.load()
            if options.apply_orientation:
                image = ImageOps.exif_transpose(image)
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # what Pillow asks for; the colours are the same
            return image.convert("RGB")
        except Exception as error:  # every format has its own, and plugins let others through
            raise UnreadableImage(_reason(error)) from error


def _open(data: bytes, options: DecodeOptions) -> Image.Image:
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image of a format that Pillow knows") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"too large: {error}") from error
    except Exception as error:
        raise UnreadableImage(_reason(error)) from error
    _check_size(*image.size, options)
    return image


def _check_size(width: int, height: int, options: DecodeOptions) -> None:
    if width * height > options.max_pixels:
        raise UnreadableImage(
            f"too large: {width} x {height} is over {options.max_pixels:,} pixels (max_pixels)"
        )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
