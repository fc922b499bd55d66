"""From the bytes of an image file to RGB pixels, the same as Pillow's, or a reason why not.

JPEG is decoded by libjpeg-turbo without Pillow around it, in half the time. Whatever that will not
do (CMYK, damaged data, other formats) goes to Pillow, whose verdict counts.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.formats import open_image, why_not
from input_pipeline.options import Option

# Pillow's own limit: a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485
OPTIONS = (Option("max_pixels", "largest image that is decoded", at_least=1),)
_LARGE, _STRIP_PIXELS, _BLOCK_BYTES = 1 << 22, 1 << 18, 8192  # pixels of a large image, its parts
_JPEG_START = b"\xff\xd8\xff"
# By EXIF orientation: quarter turns to the left, then whether left and right are swapped.
_TURNS = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}


@dataclass(frozen=True)
class Header:
    """What a file says of its image: the size in pixels and Pillow's name of the kind of pixel."""

    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class DecodeOptions:
    """What counts as readable."""

    allow_truncated: bool = False  # take a JPEG whose data end early, with grey for the rest
    # Larger ones are refused undecoded: a small file can claim a size that no memory holds.
    max_pixels: int = MAX_PIXELS
    apply_orientation: bool = False  # as far as EXIF says; published protocols do not


def decode_image(data: bytes, options: DecodeOptions = DecodeOptions()) -> np.ndarray:
    """Decodes a file's bytes as `PIL.Image.open(...).convert("RGB")` would, into uint8 [h, w, 3].

    Any of `formats.FORMATS`; the first frame counts. `UnreadableImage` for no image, one that is
    damaged or cut off, larger than `options.max_pixels`, or more than memory holds.
    """
    if options.apply_orientation:
        return turned(*decode_with_orientation(data, options))
    pixels = _decode_jpeg(data, options)
    return _decode_with_pillow(data, options)[0] if pixels is None else pixels


def decode_with_orientation(
    data: bytes, options: DecodeOptions = DecodeOptions()
) -> tuple[np.ndarray, int]:
    """The pixels as they lie, whatever `options` say of turning, and EXIF's orientation, for `turned`.

    That is 1, upright, where it cannot be read. Else as `decode_image`.
    """
    pixels = _decode_jpeg(data, options)
    if pixels is None:
        return _decode_with_pillow(data, options, with_orientation=True)
    try:
        with open_image(data) as image:
            return pixels, _orientation(image)
    except UnreadableImage:  # the pixels are good, so only the orientation is unknown
        return pixels, 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [h, w, 3] upright, by their EXIF orientation from 1 to 8."""
    turns, swapped = _TURNS.get(orientation, (0, 0))
    with fits_in_memory(pixels.shape[1], pixels.shape[0]):
        rotated = np.rot90(pixels, turns)
        return np.ascontiguousarray(rotated[:, ::-1] if swapped else rotated)


def read_header(data: bytes, options: DecodeOptions = DecodeOptions()) -> Header:
    """The size of an image that is not decoded; the first part of a file may be enough.

    Raises:
      UnreadableImage: no image, a damaged header, or larger than `options.max_pixels`.
    """
    header = _jpeg_header(data)
    if header is None:
        with open_image(data) as image:
            header = Header(*image.size, image.mode)
    _check_size(header, options)
    return header


@contextlib.contextmanager
def fits_in_memory(width: int, height: int) -> Iterator[None]:
    """Makes a `MemoryError` an `UnreadableImage`: one image's problem, not the run's."""
    try:
        yield
    except MemoryError as error:
        raise UnreadableImage(f"too large for this machine's memory: {width} x {height}") from error


def _jpeg_header(data: bytes) -> Header | None:
    """The header of a JPEG that need not go to Pillow; else None."""
    if not data.startswith(_JPEG_START):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: a header without a colour space
        return None
    modes = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "L"}
    return Header(int(width), int(height), modes[space]) if space in modes else None


def _decode_jpeg(data: bytes, options: DecodeOptions) -> np.ndarray | None:
    """The pixels, not turned; None if Pillow has to decide."""
    header = _jpeg_header(data)
    if header is None:
        return None
    _check_size(header, options)
    with fits_in_memory(header.width, header.height):
        # At an odd address: libjpeg-turbo sends aligned rows past the cache to memory, but they
        # are read right away.
        buffer = np.empty(header.height * header.width * 3 + 1, np.uint8)[1:]
        try:
            return simplejpeg.decode_jpeg(data, buffer=buffer, strict=not options.allow_truncated)
        except ValueError:  # also for what Pillow forgives, such as stray bytes between segments
            return None


def _decode_with_pillow(
    data: bytes, options: DecodeOptions, *, with_orientation: bool = False
) -> tuple[np.ndarray, int]:
    """The pixels, not turned, and the orientation; 1 where it is not asked for."""
    with open_image(data) as image:
        # Before decoding, from the header: Pillow's own check is a warning, which may be off.
        _check_size(Header(*image.size, image.mode), options)
        with fits_in_memory(*image.size):
            pixels = _load(image)
        return pixels, _orientation(image) if with_orientation else 1


def _load(image: Image.Image) -> np.ndarray:
    try:
        if image.width * image.height > _LARGE:
            return _load_in_strips(image)
        image.load()
        return _as_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # every format has its own, and plugins let others through
        raise UnreadableImage(why_not(error)) from error


def _load_in_strips(image: Image.Image) -> np.ndarray:
    """As a whole it would be in memory three times over."""
    # Pillow keeps other threads waiting while it decodes a block, which may be a thousand times as
    # large as its bytes.
    if isinstance(image, ImageFile.ImageFile):
        image.decodermaxblock = _BLOCK_BYTES
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = (0, top, width, min(top + rows, height))
        pixels[top : top + rows] = _as_rgb(image.crop(strip))
    return pixels


def _as_rgb(image: Image.Image) -> np.ndarray:
    # What Pillow asks for, where a palette has transparency; the colours are the same.
    transparent = image.mode == "P" and "transparency" in image.info
    return np.asarray((image.convert("RGBA") if transparent else image).convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """EXIF's, from 1 to 8."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:  # damaged EXIF says nothing of the pixels
        return 1


def _check_size(header: Header, options: DecodeOptions) -> None:
    if header.width * header.height > options.max_pixels:
        raise UnreadableImage(
            f"too large: {header.width} x {header.height} is over {options.max_pixels:,} pixels "
            "(max_pixels)"
        )
