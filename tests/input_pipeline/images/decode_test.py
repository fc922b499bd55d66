"""Files become Pillow's pixels, with white where they are transparent, or a reason why not."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline.errors import UnreadableImage
from input_pipeline.images import formats
from input_pipeline.images.decode import (
    DecodeOptions,
    decode_image,
    read_header,
)
from tests.input_pipeline.images.photographs import encoded, photograph

PHOTO = photograph(101, 77)
GREY_16 = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 3)
ORIENTATION = 0x0112
ROOT = Path(__file__).resolve().parents[3]


def pillows(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def rotated(file_format: str = "JPEG", orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation  # 6: the camera was turned, the right side of the file is up
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
    "palette PNG with opaque alpha": encoded(PHOTO.convert("P"), "PNG", transparency=b"\xff" * 256),
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_a_large_image_becomes_the_pixels_of_pillow(mode):
    data = encoded(PHOTO.resize((2053, 2049)).convert(mode), "PNG", compress_level=1)
    np.testing.assert_array_equal(decode_image(data), pillows(data))


ALPHA = np.arange(77 * 101, dtype=np.uint8).reshape(77, 101)  # of every strength
GREY = PHOTO.convert("L")


def with_alpha(mode: str, alpha: np.ndarray) -> Image.Image:
    image = PHOTO.resize(alpha.shape[::-1]).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(
    ("mode", "file_format", "options"),
    [
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("RGB", "TIFF", {}),
        ("L", "TIFF", {}),
        ("RGB", "WEBP", {"lossless": True, "exact": True}),
    ],
)
def test_what_is_transparent_lies_on_white(mode, file_format, options):
    image = with_alpha(mode, ALPHA)
    strength = ALPHA[..., None] / 255
    expected = np.rint(np.asarray(image.convert("RGB")) * strength + 255 * (1 - strength))
    np.testing.assert_array_equal(decode_image(encoded(image, file_format, **options)), expected)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_transparent_image_lies_on_white(mode):
    """In parts; what a client sends may be as large as that."""
    alpha = np.zeros((2049, 2053), np.uint8)
    alpha[1000:] = 255
    image = with_alpha(mode, alpha)
    expected = np.where(alpha[..., None] == 255, np.asarray(image.convert("RGB")), 255)
    data = encoded(image, "PNG", compress_level=1)
    np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize(
    ("image", "file_format"),
    [(PHOTO, "PNG"), (GREY, "PNG"), (ImageOps.invert(GREY).convert("1"), "PNG"),
     (PHOTO.convert("P"), "PNG"), (PHOTO.convert("P"), "GIF"), (GREY, "GIF")],
)  # fmt: skip
def test_a_colour_that_counts_as_transparent_is_white(image, file_format):
    """A warning of Pillow's, which palettes with transparency may get, would be an error here."""
    plain = encoded(image, file_format)
    given = image.getpixel((0, 0))
    pixels, opaque = decode_image(encoded(image, file_format, transparency=given)), pillows(plain)
    clear = (opaque == opaque[0, 0]).all(2)
    assert 0 < clear.mean() < 1
    np.testing.assert_array_equal(pixels, np.where(clear[..., None], 255, opaque))


def test_a_palette_that_is_missing_is_black_as_in_pillow():
    data = bytearray(encoded(PHOTO.convert("P"), "PNG"))
    start = data.index(b"PLTE") - 4
    del data[start : start + 12 + int.from_bytes(data[start : start + 4])]
    np.testing.assert_array_equal(decode_image(bytes(data)), np.zeros((77, 101, 3), np.uint8))


def test_grey_of_16_bits_has_no_transparent_level():
    """Pillow would find it by its last byte, so in other levels."""
    data = encoded(GREY_16, "PNG", transparency=int(np.asarray(GREY_16).min()) + 256)
    np.testing.assert_array_equal(decode_image(data), decode_image(FILES["16-bit PNG"]))


def test_alpha_that_is_multiplied_in_already_lies_on_white():
    """As some TIFF have it."""
    data = bytearray(encoded(with_alpha("L", ALPHA), "TIFF"))
    kind = struct.pack("<HHIHH", 338, 3, 1, 2, 0)  # which kind of alpha
    at = data.index(kind)
    data[at : at + len(kind)] = struct.pack("<HHIHH", 338, 3, 1, 1, 0)
    pixels = decode_image(bytes(data))
    assert (pixels[ALPHA == 0] == 255).all()
    opaque = ALPHA == 255
    np.testing.assert_array_equal(pixels[opaque], np.asarray(GREY.convert("RGB"))[opaque])


def test_orientation_is_applied_only_when_asked():
    turning = DecodeOptions(apply_orientation=True)
    upright = decode_image(FILES["JPEG with EXIF"], turning)
    np.testing.assert_array_equal(upright, np.rot90(decode_image(FILES["JPEG with EXIF"]), k=-1))


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
        changed[16:24] = side.to_bytes(4, "big") * 2
        changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    else:
        start = data.index(b"\xff\xc0") + 5
        changed[start : start + 4] = side.to_bytes(2, "big") * 2
    return bytes(changed)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_as_by_pillow(file_format, orientation):
    data = rotated(file_format, orientation)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    pixels = decode_image(data, DecodeOptions(apply_orientation=True))
    np.testing.assert_array_equal(pixels, np.asarray(turned))


BROKEN_EXIF = {
    "no TIFF header": b"Exif\0\0this is no EXIF at all",
    "ends in a count": b"Exif\0\0II*\0\x08\0\0\0\x05",
    "entries behind its end": b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0",
    "starts behind its end": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "value behind its end": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\0\0\xff\xff\0\0"
    b"\0\0\0\0",
}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_an_image_with_broken_exif_is_read_unturned(file_format, kind):
    exif = BROKEN_EXIF[kind] if file_format == "JPEG" else BROKEN_EXIF[kind][6:]
    data = encoded(PHOTO, file_format, exif=exif)
    pixels = decode_image(data, DecodeOptions(apply_orientation=True))
    np.testing.assert_array_equal(pixels, decode_image(data))
    assert pixels.shape == (77, 101, 3)


def test_an_image_is_turned_where_only_the_rest_of_its_exif_is_broken():
    # Two entries: the orientation, 6, and a description that lies behind the end.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    exif += b"\x0e\x01\x02\0\xff\0\0\0\xff\xff\0\0" + bytes(4)
    data = encoded(PHOTO, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of the description
        pixels = decode_image(data, DecodeOptions(apply_orientation=True))
    np.testing.assert_array_equal(pixels, np.rot90(decode_image(data), k=-1))


def test_a_truncated_jpeg_can_be_allowed_and_turned():
    data = rotated()
    options = DecodeOptions(allow_truncated=True, apply_orientation=True)
    assert decode_image(data[: len(data) // 2], options).shape == (101, 77, 3)


EPS = encoded(PHOTO, "EPS")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (EPS, "EPS"),
        (encoded(PHOTO, "PCX"), "PCX"),
        (encoded(PHOTO, "PPM"), "PPM"),
        (encoded(PHOTO, "JPEG2000"), "JPEG2000"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(data, name):
    with pytest.raises(UnreadableImage, match=rf"^{name} is .*read.*; accepted: JPEG, PNG, .*TIFF"):
        decode_image(data)


def test_a_postscript_file_is_never_run(tmp_path, monkeypatch):
    called = tmp_path / "called"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {called}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it may have been looked for before
    for options in (DecodeOptions(), DecodeOptions(apply_orientation=True)):
        with pytest.raises(UnreadableImage, match="EPS is not read"):
            decode_image(EPS, options)
    assert not called.exists()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("limit", [1, 5_000, 7_776])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_the_size_is_judged_by_our_limit_whatever_pillows_is(
    file_format, limit, action, monkeypatch
):
    # Pillow raises above twice its limit, and warns above once.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    data = encoded(PHOTO, file_format)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert decode_image(data).shape == (77, 101, 3)
        assert read_header(data).width == 101
        for function in (decode_image, read_header):
            with pytest.raises(UnreadableImage, match="too large: 101 x 77 is over 7,776 pixels"):
                function(data, DecodeOptions(max_pixels=7_776))


@pytest.mark.parametrize("file_format", ["TIFF", "WEBP"])
def test_where_a_plugin_asks_pillows_limit_that_limit_is_named(file_format, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3_000)
    with pytest.raises(
        UnreadableImage, match=r"^too large for Pillow, .*MAX_IMAGE_PIXELS is 3,000"
    ):
        decode_image(encoded(PHOTO, file_format))
    with pytest.raises(UnreadableImage, match="too large"):
        read_header(encoded(PHOTO, file_format), DecodeOptions(max_pixels=7_000))


def test_an_image_that_memory_does_not_hold_is_unreadable():
    data = _claiming(encoded(PHOTO, "PNG"), "PNG", 1_000_000_000)
    reason = "too large for this machine's memory: 1000000000 x 1000000000"
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(data, DecodeOptions(max_pixels=10**20))


_SCARCE = """
import io, resource, sys
import numpy as np
from PIL import Image
from input_pipeline.errors import UnreadableImage
from input_pipeline.images import formats
from input_pipeline.images.decode import DecodeOptions, decode_image
from input_pipeline.images.transforms import ImageTransform

def file(side, kind):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (side, side), "red").save(buffer, kind, exif=exif)
    return buffer.getvalue()

transform = ImageTransform(size=8, resize=8, random_area=(1.0, 1.0))
words, out = np.zeros(6, np.uint64), np.empty((8, 8, 3), np.uint8)
transform(file(9, "JPEG"), words, out)
turning = DecodeOptions(apply_orientation=True)
decode_image(file(9, "PNG"), turning)
decode_image(file(9, "JPEG"), turning)
large = {kind: file(5000, kind) for kind in ("JPEG", "PNG")}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
megabytes = 2**20
for kind, spare in (("JPEG", 40), ("PNG", 40)):
    resource.setrlimit(resource.RLIMIT_AS, (used + spare * megabytes, -1))
    try:
        decode_image(large[kind])
    except UnreadableImage as error:
        print(kind, error)
resource.setrlimit(resource.RLIMIT_AS, (used + 110 * megabytes, -1))  # 75 for the image itself
assert decode_image(large["JPEG"]).shape == (5000, 5000, 3)
for what in ("turn", "transform"):
    try:
        if what == "turn":
            decode_image(large["JPEG"], turning)
        else:
            transform(large["JPEG"], words, out)
    except UnreadableImage as error:
        print(what, error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert decode_image(large["PNG"]).shape == (5000, 5000, 3)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_where_memory_is_short_one_image_is_unreadable_and_the_next_is_read():
    # Large pieces go back to the system at once: what was free before would be above the limit.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-c", _SCARCE]
    environment = os.environ | malloc
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    reason = "too large for this machine's memory: 5000 x 5000"
    told = [f"{what} {reason}" for what in ("JPEG", "PNG", "turn", "transform")]
    assert (done.stdout.splitlines(), done.stderr) == (told, "")


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "GIF", "WEBP", "BMP", "JPEG", "AVIF"])
def test_every_reason_is_one_line_of_plain_text(file_format):
    whole = encoded(PHOTO, file_format)
    random = np.random.default_rng(0)
    reasons = set()
    for _ in range(150):
        data = bytearray(whole)
        place = int(random.integers(0, min(400, len(data) - 8)))
        data[place : place + 8] = random.bytes(8)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decode_image(bytes(data[: int(random.integers(10, len(data)))]))
        except UnreadableImage as error:
            reasons.add(str(error))
    assert reasons
    for reason in reasons:
        assert reason.isprintable() and reason.strip() and len(reason) < 250, reason
        assert "b'" not in reason and 'b"' not in reason and " at 0x" not in reason, reason
        assert "\\x" not in reason, reason


def test_raw_bytes_of_a_broken_chunk_are_not_told():
    data = bytearray(encoded(PHOTO, "PNG"))
    data[data.index(b"IDAT") : data.index(b"IDAT") + 4] = b"\0\x01\n\xff"
    with pytest.raises(UnreadableImage) as caught:
        decode_image(bytes(data))
    assert "broken PNG file" in str(caught.value) and "\\x" not in str(caught.value)


def test_heic_is_read_where_its_package_is_installed(monkeypatch):
    """The package is a stand-in that reads nothing but knows its files."""
    opened: list[str] = []

    def open_it(file, name) -> Any:
        opened.append(name)

    def register():
        Image.register_open("HEIF", open_it, lambda start: b"heic" in start)

    data = b"\0\0\0\x18ftypheic" + bytes(20)
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    formats._init.cache_clear()
    try:
        formats.open_image(data)
        assert opened == [""]
        assert "HEIF" in formats.accepted_formats()
    finally:
        Image.OPEN.pop("HEIF")
        Image.ID.remove("HEIF")
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        formats._init.cache_clear()
    with pytest.raises(UnreadableImage, match="HEIC is read only where pillow-heif is installed"):
        formats.open_image(data)
    formats._init.cache_clear()
