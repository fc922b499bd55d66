"""Files become Pillow's pixels, or a reason why they do not."""

import io

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import (
    DecodeOptions,
    decode_image,
)
from input_pipeline.images.decode import image_size as size_of
from tests.input_pipeline.images.photographs import encoded, photograph

PHOTO = photograph(101, 77)
GREY_16 = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 3)
ORIENTATION = 0x0112


def pillows(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def rotated(file_format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was turned: the right side of the file is up
    return encoded(PHOTO, file_format, exif=exif)


FILES = {
    "JPEG 4:2:0": encoded(PHOTO, quality=92),
    "JPEG 4:2:2": encoded(PHOTO, subsampling=1),
    "JPEG 4:4:4": encoded(PHOTO, subsampling=0),
    "progressive JPEG": encoded(PHOTO, progressive=True, quality=30),
    "JPEG that keeps RGB": encoded(PHOTO, keep_rgb=True),
    "grey JPEG": encoded(PHOTO.convert("L")),
    "CMYK JPEG": encoded(PHOTO.convert("CMYK")),
    "JPEG with EXIF": rotated(),
    "one pixel": encoded(PHOTO.resize((1, 1))),
    "PNG": encoded(PHOTO, "PNG"),
    "palette PNG": encoded(PHOTO.convert("P"), "PNG"),
    "palette PNG with transparency": encoded(PHOTO.convert("P"), "PNG", transparency=bytes(256)),
    "RGBA PNG": encoded(PHOTO.convert("RGBA"), "PNG"),
    "grey PNG with alpha": encoded(PHOTO.convert("LA"), "PNG"),
    "16-bit PNG": encoded(GREY_16, "PNG"),
    "16-bit TIFF": encoded(GREY_16, "TIFF"),
    "bilevel PNG": encoded(PHOTO.convert("1"), "PNG"),
    "GIF": encoded(PHOTO, "GIF"),
    "WebP": encoded(PHOTO, "WEBP"),
    "BMP": encoded(PHOTO, "BMP"),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's own convert
@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_becomes_the_pixels_of_pillow(kind):
    pixels = decode_image(FILES[kind])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, pillows(FILES[kind]))
    assert size_of(FILES[kind]) == (pixels.shape[1], pixels.shape[0])


def test_a_palette_with_transparency_is_read_without_a_warning():
    decode_image(FILES["palette PNG with transparency"])  # a warning would be an error here


def test_orientation_is_applied_only_when_asked():
    turning = DecodeOptions(apply_orientation=True)
    upright = decode_image(FILES["JPEG with EXIF"], turning)
    np.testing.assert_array_equal(upright, np.rot90(decode_image(FILES["JPEG with EXIF"]), k=-1))
    assert size_of(FILES["JPEG with EXIF"], turning) == (77, 101)
    assert size_of(FILES["JPEG 4:2:0"], turning) == (101, 77)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"a text that was named .jpg", "not an image"),
        (b"\xff\xd8\xff\xe0 and no more of it", "."),
        (FILES["PNG"][: len(FILES["PNG"]) // 2], "truncated"),
        (FILES["JPEG 4:2:0"][:-20], "truncated"),
        (FILES["JPEG 4:2:0"][: len(FILES["JPEG 4:2:0"]) // 2], "truncated"),
        (FILES["grey JPEG"][:300], "."),
    ],
)
def test_a_broken_file_is_unreadable_and_says_why(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(data)


def test_a_truncated_jpeg_can_be_allowed():
    whole = FILES["JPEG 4:2:0"]
    pixels = decode_image(whole[: len(whole) // 2], DecodeOptions(allow_truncated=True))
    assert pixels.shape == (77, 101, 3)
    np.testing.assert_array_equal(pixels[:16], pillows(whole)[:16])


def test_damage_that_pillow_forgives_is_forgiven():
    data = bytearray(FILES["JPEG 4:2:0"])
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    np.testing.assert_array_equal(decode_image(bytes(data)), pillows(bytes(data)))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(file_format):
    small = encoded(PHOTO, file_format)
    with pytest.raises(UnreadableImage, match=r"too large: 101 x 77 is over 7,000 pixels"):
        decode_image(small, DecodeOptions(max_pixels=7_000))
    decode_image(small, DecodeOptions(max_pixels=7_777))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("side", [20_000, 10_000])  # Pillow raises, Pillow only warns
def test_huge_pictures_are_refused_by_default(file_format, side):
    claimed = _claiming(encoded(PHOTO, file_format), file_format, side)
    with pytest.raises(UnreadableImage, match="too large"):
        decode_image(claimed)


def _claiming(data: bytes, file_format: str, side: int) -> bytes:
    """The same file with another size in its header."""
    changed = bytearray(data)
    if file_format == "PNG":
        import zlib

        changed[16:24] = side.to_bytes(4, "big") * 2
        changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    else:
        start = data.index(b"\xff\xc0") + 5
        changed[start : start + 4] = side.to_bytes(2, "big") * 2
    return bytes(changed)
