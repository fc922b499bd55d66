"""Every image is decoded once, in threads; what is wrong with one does not stop the others."""

import hashlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.image_checks import ImageFacts, check_images, odd_images, same_files


def jpeg(width: int = 20, height: int = 10, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


class Files:
    """Bytes by number; None is a missing file."""

    def __init__(self, *files: bytes | None):
        self.files = files

    def read(self, row: int) -> bytes:
        data = self.files[row]
        if data is None:
            raise UnreadableImage("there is no such file")
        return data


def check(*files: bytes | None, options: DecodeOptions | None = None) -> list[ImageFacts]:
    return check_images(Files(*files), len(files), options or DecodeOptions(), num_workers=2)


def test_a_good_image_is_measured():
    data = jpeg(20, 10)
    (fact,) = check(data)
    assert fact == ImageFacts(None, 20, 10, len(data), hashlib.sha256(data).digest())


def test_every_unreadable_image_has_its_reason_and_the_others_are_still_checked():
    missing, text, cut, good, large = check(
        None, b"hello", jpeg()[:-60], jpeg(), jpeg(40, 40), options=DecodeOptions(max_pixels=1599)
    )
    assert missing == ImageFacts("there is no such file")
    assert text.reason and "not an image" in text.reason and text.num_bytes == 5
    assert cut.reason and cut.digest
    assert good.reason is None
    assert large.reason and "1,599 pixels" in large.reason


def test_a_truncated_jpeg_is_taken_where_that_is_allowed():
    (fact,) = check(jpeg()[:-60], options=DecodeOptions(allow_truncated=True))
    assert (fact.reason, fact.width, fact.height) == (None, 20, 10)


def test_results_are_in_order_and_progress_counts_every_image():
    files = [jpeg(10 + i % 7, 10 + i % 5) for i in range(35)] * 30
    done = []
    reader = Files(*files)
    facts = check_images(reader, len(files), DecodeOptions(), num_workers=3, progress=done.append)
    sizes = [(fact.width, fact.height) for fact in facts]
    assert sizes == [(10 + i % 35 % 7, 10 + i % 35 % 5) for i in range(len(files))]
    assert sum(done) == len(files)


def test_no_thread_is_left_after_an_interruption():
    before = threading.active_count()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_images(Files(*[jpeg()] * 50), 50, DecodeOptions(), num_workers=2, progress=interrupt)
    assert threading.active_count() == before


def test_same_files_are_paired_but_no_image_with_itself_and_no_missing_ones():
    a, b = jpeg(seed=1), jpeg(seed=2)
    facts = check(a, b, a, None, None, b"broken", b"broken")
    pairs = same_files(facts, np.array([0, 1, 3, 5]), np.array([1, 2, 4, 6]))
    assert pairs == [(0, 2), (5, 6)]


def deep(levels: np.ndarray, file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, file_format)
    return buffer.getvalue()


def test_deep_grey_images_that_become_black_and_white_are_told():
    levels = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    files = {
        "scan.png": deep(levels, "PNG"),
        "scan.tif": deep(levels, "TIFF"),
        "float.tif": deep((levels / 65535).astype(np.float32), "TIFF"),
        "int.tif": deep(levels.astype(np.int32) * 100, "TIFF"),
        "dim.png": deep(levels // 260, "PNG"),  # fits into 8 bits
        "float 0-255.tif": deep((levels / 257).astype(np.float32), "TIFF"),
        "drawing.png": deep((levels > 30000).astype(np.uint8) * 255, "PNG"),  # 8 bits
    }
    facts = check(*files.values())
    assert [fact.reason for fact in facts] == [None] * 7
    ((what, images),) = odd_images(list(files), facts).items()
    assert "convert to 8 bits" in what
    white = int(np.ceil(65535 / 65535 * 398 / 4))  # all but levels 0 and 164 of 400
    assert images == [
        f"'scan.png' (16-bit grey, decodes to {white}% white and 0% black)",
        f"'scan.tif' (16-bit grey, decodes to {white}% white and 0% black)",
        "'float.tif' (grey in floating point, decodes to 0% white and 100% black)",
        f"'int.tif' (32-bit grey, decodes to {white}% white and 0% black)",
    ]


def test_extreme_shapes_are_told():
    sizes = ((8, 160), (8, 161), (7, 30), (30, 7), (400, 19), (200, 10))
    facts = [*(ImageFacts(None, *size) for size in sizes), ImageFacts("broken")]
    ((what, images),) = odd_images([f"{w}.png" for w, _ in sizes] + ["x"], facts).items()
    assert "under 8 pixels" in what and "20 times" in what
    expected = (
        "'8.png' (8 x 161)",
        "'7.png' (7 x 30)",
        "'30.png' (30 x 7)",
        "'400.png' (400 x 19)",
    )
    assert images == list(expected)
