"""From the bytes of an image file to RGB pixels, the same as Pillow's, or a reason why not.

What is transparent lies on white, where Pillow would show the colours that nobody sees.

JPEG is decoded by libjpeg-turbo without Pillow around it, in half the time. Whatever that will not
do (CMYK, damaged data, other formats) goes to Pillow, whose verdict counts.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.formats import open_image, why_not
from input_pipeline.options import Option

# Pillow's own limit: a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485
OPTIONS = (Option("max_pixels", "largest image that is decoded", at_least=1),)
_LARGE, _STRIP_PIXELS, _BLOCK_BYTES = 1 << 22, 1 << 18, 8192  # pixels of a large image, its parts
_JPEG_START = b"\xff\xd8\xff"
# Of a JPEG: its scans, each of which may go over all pixels in a hundred bytes, and its other parts.
# Encoders write about 10 scans, and no part is larger than 64 KiB.
_SCANS, _PARTS = 100, 1000
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a byte of pixels nor a restart
_NO_LENGTH, _END, _SCAN = 0x01, 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
# Kinds of pixel with alpha, and those of which a colour may be transparent. Not deep grey levels, which
# Pillow compares by their last byte.
_ALPHA, _KEYED = ("RGBA", "RGBa", "LA", "La", "PA"), ("RGB", "L", "1", "P")
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

    What is transparent is laid on white. Any of `formats.FORMATS`; the first frame counts.
    `UnreadableImage` for no image, one that is damaged or cut off, larger than
    `options.max_pixels`, of too many parts, or more than memory holds.
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
            _check_tiles(image, data, options)
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
    _check_parts(data)
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
        _check_tiles(image, data, options)
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
    keyed = image.mode in _KEYED and "transparency" in image.info
    if not keyed and image.mode not in _ALPHA:
        return np.asarray(image.convert("RGB"))
    if image.mode == "La":  # of some TIFF; without this step its alpha would be dropped
        image = image.convert("LA")
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return np.asarray(canvas)


def _orientation(image: Image.Image) -> int:
    """EXIF's, from 1 to 8."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:  # damaged EXIF says nothing of the pixels
        return 1


def _check_parts(data: bytes) -> None:
    """Refuses a JPEG of so many parts that decoding it has no end; the first bytes may be enough."""
    place, scans, parts, components, is_progressive = 2, 0, 0, b"", False
    while (found := _MARKER.search(data, place)) and (marker := data[found.end() - 1]) != _END:
        place = found.end()
        parts += 1
        if marker in _FRAMES:
            components = data[place + 7 : place + 8]
            is_progressive = marker in _PROGRESSIVE
        elif marker == _SCAN:
            # Of most photographs it is the only one, and what follows need not be looked at.
            if not is_progressive and data[place + 2 : place + 3] == components:
                return
            scans += 1
        if scans > _SCANS or parts > _PARTS:
            raise UnreadableImage(
                f"a JPEG of more than {_SCANS} scans or {_PARTS:,} segments, which takes too long to "
                "decode; save it anew"
            )
        if marker != _NO_LENGTH:
            place += int.from_bytes(data[place : place + 2])


def _check_tiles(image: Image.Image, data: bytes, options: DecodeOptions) -> None:
    """As `_check_size`, of the tiles of a TIFF: libtiff makes room for one, however small the image."""
    if not isinstance(image, TiffImageFile):
        return
    tags, is_big = image.tag_v2, data[2] == 43
    order = "little" if tags.prefix == b"II" else "big"
    start, size = tags.offset + (8 if is_big else 2), 20 if is_big else 12
    end = start + size * int.from_bytes(data[tags.offset : start], order)
    places = range(start, min(end, len(data)), size)
    given = [int.from_bytes(data[place : place + 2], order) for place in places]
    sides = {tag: tags.get(tag) for tag in (TILEWIDTH, TILELENGTH) if tag in given}
    # Pillow and libtiff may not agree which of two counts, nor what is a number.
    if not all(isinstance(sides[tag], int) and given.count(tag) == 1 for tag in sides):
        raise UnreadableImage("a damaged TIFF file: no size of its tiles, or several")
    width, height = (sides.get(tag) or 0 for tag in (TILEWIDTH, TILELENGTH))
    if width * height > options.max_pixels:
        raise UnreadableImage(
            f"too large: tiles of {width} x {height} are over {options.max_pixels:,} pixels "
            "(max_pixels)"
        )


def _check_size(header: Header, options: DecodeOptions) -> None:
    if header.width * header.height > options.max_pixels:
        raise UnreadableImage(
            f"too large: {header.width} x {header.height} is over {options.max_pixels:,} pixels "
            "(max_pixels)"
        )
