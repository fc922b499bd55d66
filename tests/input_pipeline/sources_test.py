"""Pixels of a batch: gathered from memory, or decoded by any number of threads."""

import threading

import numpy as np
import pytest

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.images.transforms import WORDS, ImageTransform
from input_pipeline.permutation import random_words
from input_pipeline.sources import ArraySource, DecodedSource, FeatureSource
from tests.input_pipeline.images.photographs import encoded, photograph

NAMES = [f"part {i % 2}/{i}.jpg" for i in range(12)]
TRANSFORM = ImageTransform(size=24, resize=32, horizontal_flip=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("images")
    for i, name in enumerate(NAMES):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(encoded(photograph(60 + i, 40, seed=i)))
    return directory


def source_of(folder, num_workers: int | None = 0) -> DecodedSource:
    images = EncodedImages(NAMES, FileReader(str(folder), NAMES))
    return DecodedSource(images, TRANSFORM, num_workers)


def words_of(count: int) -> np.ndarray:
    return random_words(count * WORDS, 7).reshape(count, WORDS)


def test_an_array_is_gathered_with_black_padding():
    array = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3) + 1
    images, unreadable = ArraySource(array).images(np.array([4, -1, 0]), None)
    np.testing.assert_array_equal(images, np.stack([array[4], 0 * array[0], array[0]]))
    assert unreadable == {}


def test_a_decoded_batch_holds_the_transformed_files(folder):
    rows, words = np.array([3, -1, 11, 3]), words_of(4)
    images, unreadable = source_of(folder).images(rows, words)
    assert images.shape == (4, 24, 24, 3)
    assert unreadable == {}
    for image, row, word in zip(images, rows, words, strict=True):
        expected = np.zeros((24, 24, 3), np.uint8)
        if row >= 0:
            TRANSFORM((folder / NAMES[row]).read_bytes(), word, expected)
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("num_workers", [1, 2, 8, None])
def test_any_number_of_workers_makes_the_same_batch(folder, num_workers):
    rows, words = np.arange(12)[::-1].copy(), words_of(12)
    source = source_of(folder, num_workers)
    np.testing.assert_array_equal(
        source.images(rows, words)[0], source_of(folder).images(rows, words)[0]
    )
    source.close()


def test_what_cannot_be_read_is_black_and_says_why(folder):
    names = [*NAMES[:2], "missing.jpg", "text.jpg"]
    (folder / "text.jpg").write_text("no image")
    images = EncodedImages(names, FileReader(str(folder), names))
    source = DecodedSource(images, TRANSFORM, 2)
    pixels, unreadable = source.images(np.array([3, 0, 2]), None)
    source.close()
    assert unreadable.keys() == {0, 2}
    assert "not an image" in unreadable[0]
    assert "no such file" in unreadable[2]
    assert not pixels[[0, 2]].any() and pixels[1].any()


def test_closing_ends_the_threads(folder):
    def decoding() -> int:
        return sum(thread.name.startswith("decode") for thread in threading.enumerate())

    before = decoding()
    source = source_of(folder, 3)
    source.images(np.arange(12), None)
    assert decoding() > before
    source.close()
    assert decoding() == before


def test_a_fault_that_is_not_the_images_is_not_swallowed(folder):
    class Broken(FileReader):
        def read(self, row: int) -> bytes:
            raise RuntimeError("a fault of ours")

    source = DecodedSource(EncodedImages(NAMES, Broken(str(folder), NAMES)), TRANSFORM, 2)
    with pytest.raises(RuntimeError, match="ours"):
        source.images(np.arange(3), None)
    source.close()


def test_a_file_that_memory_does_not_hold_is_that_images_problem(folder):
    class Huge(FileReader):
        def read(self, row: int) -> bytes:
            return bytes(2**62) if row == 1 else super().read(row)

    source = DecodedSource(EncodedImages(NAMES, Huge(str(folder), NAMES)), TRANSFORM, 2)
    pixels, unreadable = source.images(np.arange(3), None)
    source.close()
    assert unreadable == {1: "too large for this machine's memory"}
    assert not pixels[1].any() and pixels[0].any() and pixels[2].any()


def test_the_head_of_a_file_is_read_alone(folder):
    reader = FileReader(str(folder), ["part 0/0.jpg", "none.jpg"])
    whole = (folder / "part 0/0.jpg").read_bytes()
    assert reader.read_head(0, 100) == whole[:100]
    assert reader.read_head(0, 10**6) == whole
    with pytest.raises(UnreadableImage, match="no such file"):
        reader.read_head(1, 100)


def test_files_are_read_below_their_directory_only(folder):
    reader = FileReader(str(folder), ["part 0/0.jpg", "none.jpg"])
    assert reader.read(0) == (folder / "part 0/0.jpg").read_bytes()
    with pytest.raises(UnreadableImage, match="no such file"):
        reader.read(1)
    for name in ("/etc/passwd", "../outside.jpg", "a/../../outside.jpg"):
        with pytest.raises(DataError, match="must stay inside"):
            FileReader(str(folder), [name])


def test_a_negative_number_of_workers_is_refused(folder):
    with pytest.raises(ValueError, match="num_workers must be 0 or more"):
        source_of(folder, -1)


def features(view: int | None) -> FeatureSource:
    """Of three images, the second without features; two views of two numbers each."""
    array = np.arange(8, dtype=np.float16).reshape(2, 2, 2)
    return FeatureSource(array, np.array([1, -1, 0]), {1: "it is broken"}, view)


def test_features_are_found_by_their_place_and_one_view_is_taken():
    found, reasons = features(view=0).images(np.array([0, 2, -1]), None)
    assert found.tolist() == [[4, 5], [0, 1], [0, 0]]
    assert not reasons


def test_a_training_image_has_one_of_its_views_at_random():
    words = random_words(4 * WORDS, 0, 0, 0).reshape(4, WORDS)
    words[:, 0] = [0, 1, 2, 3]
    found, _ = features(view=None).images(np.array([0, 0, 0, 2]), words)
    assert found.tolist() == [[4, 5], [6, 7], [4, 5], [2, 3]]


def test_an_image_without_features_says_why():
    found, reasons = features(view=0).images(np.array([1, 0]), None)
    assert found.tolist() == [[0, 0], [4, 5]]
    assert reasons == {0: "it is broken"}
