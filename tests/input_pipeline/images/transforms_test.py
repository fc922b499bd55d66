"""Crops and flips: torchvision's rounding, and a pure function of the random words."""

import numpy as np
import pytest
from PIL import Image

from input_pipeline.images.transforms import WORDS, ImageTransform, shorter_side
from input_pipeline.permutation import random_words
from tests.input_pipeline.images.photographs import encoded, photograph

PHOTO = photograph(90, 60)
DATA = encoded(PHOTO, "PNG")


def apply(transform: ImageTransform, words=None, data: bytes = DATA) -> np.ndarray:
    out = np.empty((transform.size, transform.size, 3), np.uint8)
    transform(data, words, out)
    return out


def words_of(count: int) -> np.ndarray:
    return random_words(count * WORDS, 0).reshape(count, WORDS)


@pytest.mark.parametrize(
    ("before", "after"),
    [  # torchvision's Resize(256): the longer side is int(256 * long / short)
        ((500, 375), (341, 256)),
        ((375, 500), (256, 341)),
        ((333, 500), (256, 384)),
        ((500, 333), (384, 256)),
        ((256, 256), (256, 256)),
        ((100, 299), (256, 765)),
    ],
)
def test_the_shorter_side_is_resized_and_the_longer_rounded_down(before, after):
    assert shorter_side(before[0], before[1], 256) == after


@pytest.mark.parametrize(
    ("size", "left", "top"),
    [  # resized to (384, 256) and (341, 256): (384 - 225) / 2 = 79.5 and 15.5 round to even
        ((500, 333), 80, 16),
        ((500, 375), 58, 16),
    ],
)
def test_the_centre_crop_rounds_half_to_even(size, left, top):
    crop = ImageTransform(size=225, resize=256).crop(size[0], size[1], None)
    assert (crop.left, crop.top) == (left, top)


def test_evaluation_is_resize_and_centre_crop():
    resized = PHOTO.resize((48, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((12, 4, 36, 28)))
    np.testing.assert_array_equal(apply(ImageTransform(size=24, resize=32)), expected)


def test_training_takes_every_corner_and_flips_half():
    transform = ImageTransform(size=24, resize=32, horizontal_flip=True)
    crops = [transform.crop(90, 60, words) for words in words_of(2000)]
    assert {crop.left for crop in crops} == set(range(25))
    assert {crop.top for crop in crops} == set(range(9))
    assert 900 < sum(crop.flip for crop in crops) < 1100
    assert not any(ImageTransform(24, 32).crop(90, 60, words).flip for words in words_of(50))


def test_a_training_image_is_the_flipped_crop_of_the_resized_image():
    transform = ImageTransform(size=24, resize=32, horizontal_flip=True)
    resized = PHOTO.resize((48, 32), Image.Resampling.BILINEAR)
    for words in words_of(10):
        crop = transform.crop(90, 60, words)
        part = resized.crop((crop.left, crop.top, crop.left + 24, crop.top + 24))
        expected = np.asarray(part)[:, ::-1] if crop.flip else np.asarray(part)
        np.testing.assert_array_equal(apply(transform, words), expected)


def test_the_same_words_give_the_same_pixels():
    transform = ImageTransform(24, 32, horizontal_flip=True, random_area=(0.2, 1.0))
    first, second = words_of(2)
    np.testing.assert_array_equal(apply(transform, first), apply(transform, first))
    assert (apply(transform, first) != apply(transform, second)).any()


def test_a_random_area_has_the_share_and_shape_it_may_have():
    # Where a pixel comes from can be read from its colours.
    ramp = np.zeros((600, 900, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 900)[None]
    ramp[..., 1] = np.linspace(0, 255, 600)[:, None]
    data = encoded(Image.fromarray(ramp), "PNG")
    shares, shapes = [], []
    for words in words_of(60):
        part = apply(ImageTransform(64, 64, random_area=(0.2, 0.4)), words, data).astype(float)
        width = np.ptp(part[..., 0]) / 255 * 900
        height = np.ptp(part[..., 1]) / 255 * 600
        shares.append(width * height / (900 * 600))
        shapes.append(width / height)
    assert 0.17 < min(shares) < 0.25 and 0.35 < max(shares) < 0.42
    assert 0.70 < min(shapes) < 0.85 and 1.2 < max(shapes) < 1.4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"size": 33}, "cannot crop 33 pixels"),
        ({"size": 0}, "cannot crop 0 pixels"),
        ({"random_area": (0.0, 1.0)}, "random_area"),
        ({"random_area": (0.5, 1.5)}, "random_area"),
    ],
)
def test_impossible_transforms_are_refused(arguments, why):
    with pytest.raises(ValueError, match=why):
        ImageTransform(**({"size": 24, "resize": 32} | arguments))
