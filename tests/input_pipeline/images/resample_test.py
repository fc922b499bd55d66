"""A crop of a resized image, to the last grey level as Pillow makes it."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from input_pipeline.images.resample import Crop, resample
from tests.input_pipeline.images.photographs import photograph


def pillows(image: np.ndarray, crop: Crop) -> np.ndarray:
    resized = Image.fromarray(image).resize((crop.width, crop.height), Image.Resampling.BILINEAR)
    right, bottom = crop.left + crop.size, crop.top + crop.size
    pixels = np.asarray(resized.crop((crop.left, crop.top, right, bottom)))
    return pixels[:, ::-1] if crop.flip else pixels


def exact(image: np.ndarray, crop: Crop) -> np.ndarray:
    out = np.empty((crop.size, crop.size, 3), np.uint8)
    resample(image, crop, out)
    return out


@st.composite
def images_and_crops(draw) -> tuple[np.ndarray, Crop]:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    new_width, new_height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    size = draw(st.integers(1, min(new_width, new_height)))
    left = draw(st.integers(0, new_width - size))
    top = draw(st.integers(0, new_height - size))
    seed = draw(st.integers(0, 2**32 - 1))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, Crop(new_width, new_height, left, top, size, draw(st.booleans()))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(images_and_crops())
def test_any_crop_of_any_image_has_the_bytes_of_pillow(image_and_crop):
    image, crop = image_and_crop
    np.testing.assert_array_equal(exact(image, crop), pillows(image, crop))


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((500, 375), (341, 256)),  # three pixels a tap, as most photographs
        ((640, 480), (341, 256)),  # four
        ((375, 500), (256, 341)),
        ((341, 256), (341, 256)),  # packed: nothing to resize
        ((341, 300), (341, 256)),  # only one axis
        ((1600, 1200), (341, 256)),  # many
        ((60, 1500), (256, 6400)),  # enlarged
        ((300, 2000), (300, 256)),  # Pillow 13 starts with the height
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_photographs_have_the_bytes_of_pillow(size, resized, flip):
    image = np.asarray(photograph(*size, seed=1))
    spare = (resized[0] - 224, resized[1] - 224)
    for left, top in ((0, 0), spare, (spare[0] // 3, spare[1] // 2)):
        crop = Crop(resized[0], resized[1], left, top, 224, flip)
        np.testing.assert_array_equal(exact(image, crop), pillows(image, crop))
