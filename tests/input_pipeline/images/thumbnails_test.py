"""Small pictures of images in memory and in files."""

import io

import numpy as np
from PIL import Image

from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.images.thumbnails import load_thumbnails


def write_image(path, height, width, grey):
    Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(path)


def test_images_in_memory_are_given_as_they_are():
    images = np.random.RandomState(0).randint(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    found = load_thumbnails(images, [3, 1])
    assert sorted(found) == [1, 3]
    np.testing.assert_array_equal(found[3], images[3])


def test_grey_images_in_memory_become_rgb():
    images = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5, 1)
    found = load_thumbnails(images, [1])[1]
    assert found.shape == (4, 5, 3)
    assert all((found[..., channel] == images[1, ..., 0]).all() for channel in range(3))


def test_files_keep_their_shape_and_fit_the_side(tmp_path):
    names = ["wide.png", "high.png", "small.png"]
    for name, (height, width) in zip(names, [(100, 400), (600, 300), (20, 30)], strict=True):
        write_image(tmp_path / name, height, width, 77)
    images = EncodedImages(names, FileReader(str(tmp_path), names))
    found = load_thumbnails(images, range(3), side=200)
    assert [found[row].shape for row in range(3)] == [(50, 200, 3), (200, 100, 3), (20, 30, 3)]
    assert all((image == 77).all() for image in found.values())


def test_files_are_turned_where_they_are_to_be_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    images = EncodedImages(["a.jpg"], FileReader(str(tmp_path), ["a.jpg"]))
    assert load_thumbnails(images, [0])[0].shape == (30, 40, 3)
    assert load_thumbnails(images, [0], upright=True)[0].shape == (40, 30, 3)


def test_an_image_that_cannot_be_read_is_left_out(tmp_path):
    write_image(tmp_path / "good.png", 10, 10, 5)
    whole = io.BytesIO((tmp_path / "good.png").read_bytes()).getvalue()
    (tmp_path / "cut.png").write_bytes(whole[:30])
    names = ["cut.png", "missing.png", "good.png"]
    images = EncodedImages(names, FileReader(str(tmp_path), names))
    assert list(load_thumbnails(images, range(3))) == [2]
