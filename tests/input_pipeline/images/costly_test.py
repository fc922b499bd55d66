"""Files that are small, and would take minutes or all memory to decode, are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image, read_header
from tests.input_pipeline.images.photographs import encoded, photograph

PHOTO = photograph(101, 77)
TURNING = DecodeOptions(apply_orientation=True)
FUNCTIONS = (decode_image, lambda data: decode_image(data, TURNING), read_header)


def with_scans(data: bytes, count: int) -> bytes:
    """The same JPEG whose last scan is there so many times more."""
    last, end = data.rindex(b"\xff\xda"), len(data) - 2
    return data[:end] + data[last:end] * count + data[end:]


def with_segments(data: bytes, kind: bytes, content: bytes, count: int) -> bytes:
    """The same JPEG with so many segments more."""
    return data[:2] + (kind + struct.pack(">H", 2 + len(content)) + content) * count + data[2:]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])  # the last one is Pillow's
def test_a_jpeg_of_endless_scans_is_refused(function, mode):
    data = with_scans(encoded(PHOTO.convert(mode), progressive=True), 10_000)
    with pytest.raises(UnreadableImage, match="more than 100 scans"):
        function(data)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", [b"\xff\xe1", b"\xff\xed", b"\xff\xfe"])
def test_a_jpeg_of_endless_segments_is_refused(function, kind):
    with pytest.raises(UnreadableImage, match="1,000 segments"):
        function(with_segments(encoded(PHOTO), kind, b"Exif\0\0", 100_000))


def test_a_jpeg_of_endless_markers_without_a_segment_is_refused():
    data = encoded(PHOTO)
    with pytest.raises(UnreadableImage, match="1,000 segments"):
        decode_image(data[:2] + b"\xff\x01" * 1_000_000 + data[2:])


def test_a_jpeg_of_many_scans_is_read():
    data = with_scans(encoded(PHOTO, progressive=True), 50)
    pillows = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(decode_image(data), np.asarray(pillows))


def test_a_jpeg_of_the_largest_colour_profile_and_much_else_is_read():
    data = encoded(PHOTO, icc_profile=bytes(255 * 65_000))
    data = with_segments(data, b"\xff\xe1", b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000), 255)  # fmt: skip
    np.testing.assert_array_equal(decode_image(data, TURNING), decode_image(encoded(PHOTO)))


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_a_jpeg_is_not_looked_at(progressive):
    """As the films that telephones append."""
    data = encoded(PHOTO, progressive=progressive)
    film = b"\xff\xda\0\2" * 1000
    np.testing.assert_array_equal(decode_image(data + film), decode_image(data))


def tiff(tags: list[tuple[int, int, int]], side: int) -> bytes:
    """A BigTIFF of 10 x 10 whose tile is black; `tags` are (tag, type, value)."""
    packer = zlib.compressobj(9)
    data = packer.compress(bytes(side * side)) + packer.flush()
    tags = [(256, 3, 10), (257, 3, 10), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), *tags]
    tags += [(324, 4, 32 + 20 * (len(tags) + 2)), (325, 4, len(data))]
    entries = b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags))
    return head + entries + bytes(8) + data


SHORT, SIGNED_LONG_8 = 3, 17  # Pillow does not know the latter, libtiff does
SMALL = [(322, SHORT, 16), (323, SHORT, 16)]
LARGE = [(322, SHORT, 4096), (323, SHORT, 4096)]
UNKNOWN = [(322, SIGNED_LONG_8, 4096), (323, SIGNED_LONG_8, 4096)]


@pytest.mark.parametrize("tags", [LARGE, LARGE + SMALL, UNKNOWN, UNKNOWN + SMALL])
def test_the_tiles_of_a_tiff_are_no_larger_than_an_image_may_be(tags):
    data = tiff(tags, 4096)
    assert len(data) < 20_000
    options = DecodeOptions(max_pixels=4096 * 4096 - 1)
    for function in (decode_image, read_header):
        with pytest.raises(UnreadableImage, match="tiles"):
            function(data, options)
    assert decode_image(tiff(SMALL, 16), options).shape == (10, 10, 3)


def test_tiles_that_are_larger_than_their_image_are_read():
    np.testing.assert_array_equal(decode_image(tiff(LARGE, 4096)), np.zeros((10, 10, 3)))


@pytest.mark.parametrize("order", ["II", "MM"])
def test_a_tiff_of_strips_is_read(order):
    file = io.BytesIO()
    mode = {"II": "I;16", "MM": "I;16B"}[order]
    levels = np.full((7, 9), 200, np.uint16)
    Image.frombytes(mode, (9, 7), levels.astype({"II": "<u2", "MM": ">u2"}[order]).tobytes()).save(
        file, "TIFF"
    )
    assert file.getvalue()[:2] == order.encode()
    np.testing.assert_array_equal(decode_image(file.getvalue()), np.full((7, 9, 3), 200))
