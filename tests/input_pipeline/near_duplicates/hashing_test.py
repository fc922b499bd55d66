import imagehash
import numpy as np
import pytest
from PIL import Image, ImageFilter

from input_pipeline.near_duplicates.hashing import perceptual_hash


def photograph(seed: int, height: int, width: int) -> np.ndarray:
    """Colours without order, smoothed to something like an image."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1)))


@pytest.mark.parametrize("height, width", [(240, 320), (31, 500), (8, 8), (1, 1), (33, 32)])
def test_the_hash_is_that_of_imagehash(height, width):
    for seed in range(20):
        pixels = photograph(seed, height, width)
        expected = int(str(imagehash.phash(Image.fromarray(pixels))), 16)
        assert int(perceptual_hash(pixels)) == expected


def test_grey_pixels_have_the_hash_of_their_colour_image():
    grey = photograph(0, 60, 80)[..., 0]
    assert perceptual_hash(grey) == perceptual_hash(np.repeat(grey[..., None], 3, axis=2))


def test_a_flat_image_has_only_its_mean():
    assert int(perceptual_hash(np.full((40, 50, 3), 99, np.uint8))) == 1 << 63


def test_the_hash_is_one_uint64():
    assert perceptual_hash(photograph(0, 20, 20)).dtype == np.uint64
