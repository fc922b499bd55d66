"""Every image is decoded once, in threads; what is wrong with one does not stop the others."""

import hashlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.image_checks import ImageFacts, check_images, same_files


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

    def close(self) -> None:
        pass


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


def test_at_least_one_worker_is_needed():
    with pytest.raises(ValueError, match="num_workers must be 1 or more, got 0"):
        check_images(Files(), 0, DecodeOptions(), num_workers=0)


def test_same_files_are_paired_but_no_image_with_itself_and_no_missing_ones():
    a, b = jpeg(seed=1), jpeg(seed=2)
    facts = check(a, b, a, None, None, b"broken", b"broken")
    pairs = same_files(facts, np.array([0, 1, 3, 5]), np.array([1, 2, 4, 6]))
    assert pairs == [(0, 2), (5, 6)]
